"""Makes the handler's row from a request (TorchServe's decoding rules)."""

import json
import logging
from collections.abc import Callable
from functools import partial

from marq import forms
from marq.errors import RequestTooLarge
from marq.forms import MOST_FIELDS
from marq.payloads import body_keys
from marq.payloads.files import PayloadLost
from marq.payloads.place import Place
from marq.queue.entries import ROW_TYPE, Request, row_fields
from ts.context import SEQUENCE_END_KEY, SEQUENCE_ID_KEY, SEQUENCE_START_KEY

log = logging.getLogger(__name__)

Row = dict[str, object]
Headers = dict[str, object]


def build(
    request: Request, decode_input: bool = True, place: Place | None = None, most_fields: int = MOST_FIELDS
) -> tuple[Row, Callable[[], Headers]]:
    """The row of one request, and a function that makes its headers; most handlers never ask for them.

    A row is `{"body": value}`, or one key for each field of a form. Values are parsed JSON for
    `application/json`, `str` for `text/...` and `bytearray` otherwise, or where decoding fails. The request's
    parameters are keys, too. Raises PayloadLost for a body whose file is not in `place`, or whose key is not
    in Redis, and RequestTooLarge for a form or parameters of more than `most_fields`.
    """
    body = request.body
    if request.body_ref and not body:
        body = _load(request.body_ref, place)
    try:
        row, kinds = _row(request, body, decode_input, most_fields)
        if request.params:
            added = {name: bytearray(value) for name, value in forms.fields(request.params, most_fields)}
            row, kinds = added | row, dict.fromkeys(added, "") | kinds
    except forms.FormTooLarge as error:
        raise RequestTooLarge(str(error)) from None
    return row, partial(_headers, request, kinds)


def _headers(request: Request, kinds: dict[str, str]) -> Headers:
    """The headers as the client sent them, and `{"content-type": ...}` for each key of the row."""
    headers: Headers = {name: {"content-type": kind} for name, kind in kinds.items()}
    headers |= _parse_headers(request)
    if request.sequence:
        headers |= _of_sequence(request, headers)
    if request.path is not None:
        headers.setdefault("url_path", request.path.decode())
        headers.setdefault("explain", "False")
    return headers


def _of_sequence(request: Request, given: Headers) -> Headers:
    """The headers of a sequence whose id came in another way, or was made by the server."""
    flags = {SEQUENCE_START_KEY: request.sequence_start, SEQUENCE_END_KEY: request.sequence_end}
    added: Headers = {SEQUENCE_ID_KEY: request.sequence.decode()}
    added |= {name: "true" for name, flag in flags.items() if flag == b"1" and name not in given}
    return added


def _load(ref: bytes, place: Place | None) -> bytearray:
    if body_keys.is_ref(ref):
        raise PayloadLost("The body of the request is not in Redis any more. Send the request again.")
    if place is None:
        raise PayloadLost("The body is a file, and this replica reads none.")
    return place.load(ref)


def _row(
    request: Request, body: bytes | bytearray, decode_input: bool, most_fields: int
) -> tuple[Row, dict[str, str]]:
    """The row that the body makes, with the content type of each key."""
    if request.run and request.type == ROW_TYPE:
        values = row_fields(bytes(body))
        return {name: bytearray(value) for name, value in values.items()}, dict.fromkeys(values, "")
    mime = forms.mime_type(request.type)
    if mime.lower() == forms.MULTIPART:
        return _multipart_row(request, body, decode_input, most_fields)
    if mime.lower() == forms.FORM:
        row: Row = {name: bytearray(value) for name, value in forms.fields(bytes(body), most_fields)}
        return row, dict.fromkeys(row, "")
    return {"body": _decode(body, mime, decode_input)}, {"body": mime}


def _decode(body: bytes | bytearray, mime: str, decode_input: bool) -> object:
    if decode_input and body:
        try:
            if mime == "application/json":
                # Text is read faster; a body that may have another encoding than UTF-8 is left to the parser.
                is_utf8 = body[0] < 128 and 0 not in body[:4]
                return json.loads(body.decode("utf-8", "surrogatepass") if is_utf8 else body)
            if mime.startswith("text"):
                return body.decode()
        except (ValueError, RecursionError) as error:
            log.warning("the handler gets a %s body as bytes, because it cannot be decoded: %s", mime, error)
    return body if isinstance(body, bytearray) else bytearray(body)


def _multipart_row(
    request: Request, body: bytes | bytearray, decode_input: bool, most_fields: int
) -> tuple[Row, dict[str, str]]:
    """One key for each part, bytes if it has no file name. Of a broken body, the readable parts."""
    row: Row = {}
    kinds: dict[str, str] = {}
    boundary = forms.boundary(request.type)
    if not boundary:
        return {"body": bytearray(body)}, {"body": forms.MULTIPART}
    if (plain := forms.plain_parts(body, boundary, most_fields)) is not None:
        for name, kind, value in plain:
            kinds[name], row[name] = kind, _decode(value, kind, decode_input)
        return row, kinds
    parts, broken = forms.parts(bytes(body), boundary, most_fields)
    if broken:
        log.warning(
            "request %s: the handler gets only part of its multipart body: %s", request.id.decode(), broken
        )
    for headers, content in parts:
        if (field := forms.part_name(headers)) is None:
            continue
        kinds[field] = forms.file_type(headers)
        row[field] = _decode(content, kinds[field], decode_input)
    return row, kinds


def _parse_headers(request: Request) -> Headers:
    if not request.headers:
        return {}
    try:
        headers = json.loads(request.headers)
    except (ValueError, RecursionError):
        headers = None
    if not isinstance(headers, dict):
        log.warning("request %s: its headers are ignored, they are not a JSON object", request.id.decode())
        return {}
    return headers
