"""The bodies of a batch, taken from a request while it arrives: lines of JSON, or parts of multipart.

A reader holds no more than one of them and the bytes that have just arrived.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Protocol

import orjson
from python_multipart.multipart import MultipartParser

from gateway.asgi import Headers, content_type
from marq.errors import BadRequest, RequestTooLarge, ServiceError
from marq.forms import MULTIPART, boundary, mime_type

JSON, BYTES = b"application/json", b"application/octet-stream"
JSON_LINES = (
    "application/x-ndjson",
    "application/jsonl",
    "application/x-jsonlines",
)
UNTYPED = ("", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain")  # of curl


@dataclass(frozen=True)
class Row:
    """The body of one job; `number` counts the lines or parts from 1."""

    number: int
    body: bytes
    type: bytes


@dataclass(frozen=True)
class Fault:
    """A line or part that cannot be queued."""

    number: int
    error: ServiceError


Found = Row | Fault


class Reader(Protocol):
    """Takes a request's body piece by piece. `close` says that it is complete. Both raise BadRequest for a
    body of which nothing more can be read."""

    def feed(self, data: bytes) -> Iterator[Found]: ...

    def close(self) -> Iterator[Found]: ...


def reader(headers: Headers, longest: int) -> Reader:
    """The reader for a request with these headers, of lines or parts of up to `longest` bytes.

    Raises BadRequest.
    """
    given = content_type(headers)
    kind = mime_type(given).lower()
    if kind == MULTIPART:
        if not (separator := boundary(given)):
            raise BadRequest("Header content-type must name the boundary of the multipart body.")
        return Parts(separator, longest)
    if kind in JSON_LINES or kind in UNTYPED:
        return Lines(longest)
    raise BadRequest(
        f"A batch is JSON lines ({JSON_LINES[0]}) or {MULTIPART}, not {kind:.100}; one body of another type "
        "is a job: POST /jobs/{model}.",
        415,
    )


class Lines:
    """JSON lines: each line is the body of one job, as it is. Empty lines count, but are no jobs."""

    def __init__(self, longest: int) -> None:
        self._longest, self._number, self._size = longest, 0, 0
        self._line = bytearray()

    def feed(self, data: bytes) -> Iterator[Found]:
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._add(data[start:end])
            yield from self._end()
            start = end + 1
        self._add(data[start:])

    def close(self) -> Iterator[Found]:
        yield from self._end()

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._longest:
            self._line += piece
        else:
            self._line.clear()

    def _end(self) -> Iterator[Found]:
        line, size = bytes(self._line).strip(), self._size
        self._line.clear()
        self._number, self._size = self._number + 1, 0
        if size > self._longest:
            yield Fault(self._number, _too_large(size, self._longest))
        elif line:
            yield self._row(line)

    def _row(self, line: bytes) -> Found:
        try:
            orjson.loads(line)
        except ValueError as error:
            return Fault(self._number, BadRequest(f"The line is not a JSON value: {error}"))
        return Row(self._number, line, JSON)


class Parts:
    """A multipart body: the content of each part is the body of one job, which has the part's type."""

    def __init__(self, separator: bytes, longest: int) -> None:
        self._longest, self._number, self._size = longest, 0, 0
        self._content, self._name, self._value = bytearray(), bytearray(), bytearray()
        self._headers = Message()
        self._found: list[Found] = []
        self._is_complete = False
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add,
            "on_part_end": self._end,
            "on_end": self._complete,
        }
        self._parser = MultipartParser(separator, callbacks)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> Iterator[Found]:
        failure = None
        try:
            self._parser.write(data)
        except ValueError as error:
            failure = BadRequest(f"The multipart body cannot be read: {error}")
        found, self._found = self._found, []
        yield from found
        if failure:
            raise failure

    def close(self) -> Iterator[Found]:
        if not self._is_complete:
            raise BadRequest("The multipart body ends before its last boundary.")
        yield from ()

    def _begin(self) -> None:
        self._headers, self._size = Message(), 0
        self._content.clear()

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-type":
            self._headers["content-type"] = self._value.decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _add(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size <= self._longest:
            self._content += data[start:end]
        else:
            self._content.clear()

    def _end(self) -> None:
        self._number += 1
        if self._size > self._longest:
            self._found.append(Fault(self._number, _too_large(self._size, self._longest)))
            return
        kind = str(self._headers.get("content-type", "")).encode("latin-1") or BYTES
        self._found.append(Row(self._number, bytes(self._content), kind))

    def _complete(self) -> None:
        self._is_complete = True


def _too_large(size: int, longest: int) -> RequestTooLarge:
    return RequestTooLarge(f"It has {size} bytes; one body of a batch may have {longest}.")
