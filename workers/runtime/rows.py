"""Rows in: what the handler gets for a request (TorchServe's decoding rules)."""

import json
import logging
from collections.abc import Iterator, Mapping
from email.message import Message
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from marq.message import Request

log = logging.getLogger(__name__)

Row = dict[str, Any]
FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


class RequestHeaders(Mapping[str, Any]):
    """A request's headers for the handler: names in any case, and `{parameter: {"content-type": ...}}`.

    The JSON is parsed when a handler first asks, because most never do.
    """

    __slots__ = ("_names", "_parameters", "_request", "_values")

    def __init__(self, request: Request, parameters: dict[str, str]) -> None:
        self._request, self._parameters = request, parameters
        self._values: dict[str, Any] | None = None
        self._names: dict[str, str] = {}

    def __getitem__(self, name: str) -> Any:
        values = self._load()
        return values[name] if name in values else values[self._names[name.lower()]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def _load(self) -> dict[str, Any]:
        if self._values is None:
            values: dict[str, Any] = {name: {"content-type": kind} for name, kind in self._parameters.items()}
            values |= _parse_headers(self._request)
            if self._request.path is not None:
                values.setdefault("url_path", self._request.path.decode())
                values.setdefault("explain", "False")
            self._values = values
            self._names = {name.lower(): name for name in values}
        return self._values

    def __repr__(self) -> str:
        return repr(self._load())


def build(request: Request, decode_input: bool = True) -> tuple[Row, RequestHeaders]:
    """The row of one request, with its headers.

    A row is `{"body": value}`, or one key for each field of a form. Values are parsed JSON for
    `application/json`, `str` for `text/...` and `bytearray` otherwise, or where decoding fails.
    """
    mime = request.type.partition(b";")[0].strip().decode("latin-1")
    if mime.lower() == MULTIPART:
        return _multipart_row(request, decode_input)
    if mime.lower() == FORM:
        row: Row = {name: bytearray(value) for name, value in _form_fields(request.body)}
        return row, RequestHeaders(request, dict.fromkeys(row, ""))
    return {"body": _decode(request.body, mime, decode_input)}, RequestHeaders(request, {"body": mime})


def _decode(body: bytes, mime: str, decode_input: bool) -> Any:
    if decode_input and body:
        try:
            if mime == "application/json":
                return json.loads(body)
            if mime.startswith("text"):
                return body.decode()
        except (ValueError, RecursionError) as error:
            log.warning("a %s body is passed as bytes: %s", mime, error)
    return bytearray(body)


def _form_fields(body: bytes) -> Iterator[tuple[str, bytes]]:
    for pair in body.split(b"&"):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        if name:
            yield unquote_to_bytes(name).decode("utf-8", "replace"), unquote_to_bytes(value)


def _multipart_row(request: Request, decode_input: bool) -> tuple[Row, RequestHeaders]:
    """One key for each part, bytes if it has no file name. A broken body gives what could be read."""
    from python_multipart.multipart import parse_options_header

    row: Row = {}
    kinds: dict[str, str] = {}
    boundary = parse_options_header(request.type)[1].get(b"boundary")
    if not boundary:
        return {"body": bytearray(request.body)}, RequestHeaders(request, {"body": MULTIPART})
    for headers, content in _parts(request, boundary):
        name = headers.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            continue
        kinds[name] = headers.get_content_type() if headers.get_filename() is not None else ""
        row[name] = _decode(content, kinds[name], decode_input)
    return row, RequestHeaders(request, kinds)


def _parts(request: Request, boundary: bytes) -> list[tuple[Message, bytes]]:
    from python_multipart.multipart import MultipartParser

    parts: list[tuple[Message, bytes]] = []
    headers, name, value, content = Message(), bytearray(), bytearray(), BytesIO()

    def begin_part() -> None:
        nonlocal headers, content
        headers, content = Message(), BytesIO()
        headers.set_default_type("application/octet-stream")

    def end_header() -> None:
        headers[name.decode("latin-1")] = value.decode("utf-8", "replace")
        name.clear()
        value.clear()

    callbacks = {
        "on_part_begin": begin_part,
        "on_header_field": lambda data, start, end: name.extend(data[start:end]),
        "on_header_value": lambda data, start, end: value.extend(data[start:end]),
        "on_header_end": end_header,
        "on_part_data": lambda data, start, end: content.write(data[start:end]),
        "on_part_end": lambda: parts.append((headers, content.getvalue())),
    }
    try:
        MultipartParser(boundary, callbacks).write(request.body)  # type: ignore[arg-type]
    except ValueError as error:
        log.warning("request %s: its multipart body is broken: %s", request.id.decode(), error)
    return parts


def _parse_headers(request: Request) -> dict[str, Any]:
    if not request.headers:
        return {}
    try:
        headers = json.loads(request.headers)
    except (ValueError, RecursionError):
        headers = None
    if not isinstance(headers, dict):
        log.warning("request %s: its headers are not a JSON object", request.id.decode())
        return {}
    return headers
