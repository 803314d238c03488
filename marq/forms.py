"""Urlencoded and multipart forms, read as forgivingly as browsers write them."""

import re
from collections.abc import Iterator
from email.message import Message
from io import BytesIO
from urllib.parse import unquote_to_bytes

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
LONGEST = 1_000  # bytes of a name or a value that `value` looks at
MOST_FIELDS = 1_000

OF_CURL = (  # which sends any file as a form, unless it is given a type
    " A body that is not a form needs its media type: curl --data-binary sends"
    " application/x-www-form-urlencoded; add -H 'Content-Type: application/octet-stream', or use -T."
)

_PLAIN_TYPE = re.compile(rb"multipart/form-data; boundary=([A-Za-z0-9-]{1,70})")
_PLAIN_HEAD = re.compile(
    rb'\r\nContent-Disposition: form-data; name="([A-Za-z0-9_.-]{1,100})"'
    rb'(; filename="[A-Za-z0-9_. ()+-]{1,200}")?'
    rb"(?:\r\nContent-Type: ([A-Za-z0-9.+-]{1,100}/[A-Za-z0-9.+-]{1,100}))?\r\n\r\n"
)
_FILE_TYPE = "application/octet-stream"  # of a file that names none

PlainPart = tuple[str, str, bytearray]  # name, media type (empty unless it is a file), content


class FormTooLarge(ValueError):
    """Raised when a form has more fields than are read."""


def mime_type(content_type: bytes) -> str:
    """The media type without its parameters, in the case in which it came."""
    return content_type.partition(b";")[0].strip().decode("latin-1")


def fields(encoded: bytes, most: int = MOST_FIELDS) -> Iterator[tuple[str, bytes]]:
    """The names and values of an urlencoded form or query string; pairs without a name are left out.

    Raises FormTooLarge, before the first, if there are more than `most`.
    """
    if encoded.count(b"&") >= most:
        raise _too_many(most, OF_CURL)
    for pair in encoded.split(b"&"):
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        if name:
            yield unquote_to_bytes(name).decode("utf-8", "replace"), unquote_to_bytes(value)


def boundary(content_type: bytes) -> bytes:
    """The boundary of a multipart body; empty if the type has none."""
    if plain := _PLAIN_TYPE.fullmatch(content_type):
        return plain[1]
    from python_multipart.multipart import parse_options_header

    return parse_options_header(content_type)[1].get(b"boundary", b"")


def plain_parts(body: bytes | bytearray, boundary: bytes, most: int = MOST_FIELDS) -> list[PlainPart] | None:
    """The parts of a multipart body in the form that most clients send, without odd names or headers.

    None for any other body: `parts` reads it. This is 10 times as fast for small forms, and it copies each
    content once.
    """
    start = b"--" + boundary
    if not body.startswith(start):
        return None
    at, separator = len(start), b"\r\n" + start
    found: list[PlainPart] = []
    while head := _PLAIN_HEAD.match(body, at):
        begin = head.end()
        end = body.find(separator, begin - 2)
        if end < begin or len(found) == most:
            return None
        name, is_file, kind = head.groups()
        found.append(
            (name.decode(), _media_type(kind) if is_file else "", bytearray(memoryview(body)[begin:end]))
        )
        at = end + len(separator)
    return found if found and body[at:].strip() == b"--" else None


def _media_type(given: bytes | None) -> str:
    return given.decode().lower() if given else _FILE_TYPE


def parts(body: bytes, boundary: bytes, most: int = MOST_FIELDS) -> tuple[list[tuple[Message, bytes]], str]:
    """The headers and contents of a multipart body's parts, and the error that ended the reading, or "".

    python-multipart bounds the headers of a part. Raises FormTooLarge for more than `most` parts.
    """
    from python_multipart.multipart import MultipartParser

    found: list[tuple[Message, bytes]] = []
    headers, name, value, content = Message(), bytearray(), bytearray(), BytesIO()

    def begin_part() -> None:
        nonlocal headers, content
        if len(found) == most:
            raise _too_many(most)
        headers, content = Message(), BytesIO()
        headers.set_default_type(_FILE_TYPE)

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
        "on_part_end": lambda: found.append((headers, content.getvalue())),
    }
    try:
        MultipartParser(boundary, callbacks).write(body)  # type: ignore[arg-type]
    except FormTooLarge:
        raise
    except ValueError as error:
        return found, str(error)
    return found, ""


def part_name(headers: Message) -> str | None:
    """The name of a multipart body's part; None also if the header cannot be read."""
    try:
        name = headers.get_param("name", header="content-disposition")
    except Exception:  # email.message raises TypeError and others for parameters that contradict each other
        return None
    return name if isinstance(name, str) else None


def file_type(headers: Message) -> str:
    """The media type of a part with a file name; "" for other parts, and if the headers cannot be read."""
    try:
        return headers.get_content_type() if headers.get_filename() is not None else ""
    except Exception:  # as above
        return ""


def value(content_type: bytes, body: bytes, wanted: str, most: int) -> bytes | None:
    """The value of one field, the last of that name; None without one. A body without a form has none.

    Raises FormTooLarge, as `fields` and `parts` do.
    """
    mime = mime_type(content_type).lower()
    if mime == FORM:
        return _in_pairs(body, wanted, most)
    if mime == MULTIPART and (separator := boundary(content_type)):
        return _in_parts(body, separator, wanted, most)
    return None


def _too_many(most: int, cure: str = "") -> FormTooLarge:
    return FormTooLarge(f"The form has more than {most} fields (max_form_fields).{cure}")


def _in_pairs(body: bytes, wanted: str, most: int) -> bytes | None:
    if body.count(b"&") >= most:
        raise _too_many(most, OF_CURL)
    pairs = [pair for pair in body.split(b"&") if len(pair) <= 2 * LONGEST]
    return dict(fields(b"&".join(pairs), most)).get(wanted)


def _in_parts(body: bytes, separator: bytes, wanted: str, most: int) -> bytes | None:
    found = None
    for headers, content in parts(body, separator, most)[0]:
        if len(content) <= LONGEST and part_name(headers) == wanted:
            found = content
    return found
