"""The lines of a batch's input file: checked before any of them runs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import orjson

from gateway.asgi import Document

MOST_LINES = 50_000
MOST_BYTES = 200 * 1_000_000  # of a file
LONGEST_ID = 512  # characters of a custom_id
MOST_ERRORS = 20
AT_ONCE, BYTES_AT_ONCE = 100, 1_000_000  # lines that are read, and queued, together


@dataclass(frozen=True)
class Line:
    """One request."""

    number: int
    custom_id: str
    body: bytes


@dataclass
class Checked:
    """The content of a file: its model and number of lines, or its errors."""

    model: str = ""
    total: int = 0
    errors: list[Document] = field(default_factory=list)

    def note(self, number: int | None, code: str, message: str, param: str | None = None) -> None:
        self.errors.append({"code": code, "line": number, "message": message, "param": param})


def first_model(path: Path) -> str:
    """The model that the first line names; empty if it cannot be read."""
    with path.open("rb") as file:
        for raw in islice(_rows(file, MOST_BYTES), 1):
            try:
                return str(orjson.loads(raw)["body"]["model"])
            except (ValueError, KeyError, TypeError):
                return ""
    return ""


def check(path: Path, endpoint: str, longest: int) -> Checked:
    """Reads a whole file; the first errors, if it has some."""
    found, seen = Checked(), set[str]()
    with path.open("rb") as file:
        for number, raw in enumerate(_rows(file, longest), 1):
            if number > MOST_LINES:
                found.note(None, "too_many_tasks", f"The file has more than {MOST_LINES} lines.")
            else:
                _check_line(found, number, raw, endpoint, longest, seen)
            if len(found.errors) >= MOST_ERRORS or number > MOST_LINES:
                break
            found.total = number
    if not found.total and not found.errors:
        found.note(None, "empty_file", "The file has no lines.")
    return found


def read(path: Path) -> Iterator[list[Line]]:
    """The lines of a file that was checked, some at a time."""
    some: list[Line] = []
    size = 0
    with path.open("rb") as file:
        for number, raw in enumerate(_rows(file, MOST_BYTES), 1):
            some.append(_line(number, raw))
            size += len(raw)
            if len(some) == AT_ONCE or size > BYTES_AT_ONCE:
                yield some
                some, size = [], 0
    if some:
        yield some


def _line(number: int, raw: bytes) -> Line:
    value = orjson.loads(raw)
    return Line(number, value["custom_id"], orjson.dumps(value["body"]))


def _rows(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """The lines that are not empty; of one that is too long, its beginning."""
    while raw := file.readline(longest + 1):
        begin = raw
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(longest + 1)
        if row := begin.strip():
            yield row


def _check_line(found: Checked, number: int, raw: bytes, endpoint: str, longest: int, seen: set[str]) -> None:
    if len(raw) > longest:
        found.note(number, "line_too_long", f"The line has more than {longest} bytes (max_request_size).")
        return
    try:
        value = orjson.loads(raw)
    except ValueError as error:
        found.note(number, "invalid_json_line", f"The line is not JSON: {error}")
        return
    if not isinstance(value, dict):
        found.note(number, "invalid_json_line", "The line must be a JSON object.")
        return
    _check_id(found, number, value.get("custom_id"), seen)
    if value.get("method") != "POST":
        found.note(number, "invalid_method", 'method must be "POST".', "method")
    if value.get("url") != endpoint:
        found.note(number, "mismatched_endpoint", f"url must be the batch's endpoint, {endpoint}.", "url")
    if isinstance(body := value.get("body"), dict):
        _check_body(found, number, body)
    else:
        found.note(number, "invalid_request", "body must be a JSON object.", "body")


def _check_id(found: Checked, number: int, custom_id: object, seen: set[str]) -> None:
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
        message = f"custom_id must be a text of 1 to {LONGEST_ID} characters."
        found.note(number, "missing_required_parameter", message, "custom_id")
    elif custom_id in seen:
        message = f"custom_id {custom_id:.100} is that of an earlier line."
        found.note(number, "duplicate_custom_id", message, "custom_id")
    else:
        seen.add(custom_id)


def _check_body(found: Checked, number: int, body: dict[str, object]) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        message = "body.model must be the name of a registered model."
        found.note(number, "missing_required_parameter", message, "body.model")
    elif found.model and model != found.model:
        message = f"body.model must be {found.model:.100}, as in the lines before."
        found.note(number, "mismatched_model", message, "body.model")
    else:
        found.model = model
    if body.get("stream"):
        found.note(number, "invalid_request", "stream is not possible in a batch.", "body.stream")
