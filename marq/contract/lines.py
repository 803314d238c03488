"""Entries as lines of JSON, for files that programs in any language can write and read."""

import base64
import binascii
import json
from dataclasses import dataclass

from marq.errors import BadRequest

BASE64 = "base64"


@dataclass(frozen=True)
class EntryLine:
    """One entry: `fields` has names and values in turn, as XADD takes them. `lane` may be empty."""

    lane: str
    fields: list[bytes]


def parse(line: str) -> EntryLine:
    """Reads `{"lane": "marq:{digits}:normal:1.0", "fields": {"reply": "mine", "body": {"base64": "iVBO"}}}`.

    A value is a text, or an object with its bytes in base64. Raises BadRequest.
    """
    try:
        read = json.loads(line)
    except ValueError as error:
        raise BadRequest(f"The line is not JSON: {error}") from None
    if not isinstance(read, dict) or not isinstance(read.get("fields"), dict):
        raise BadRequest('A line must be an object like {"lane": "…", "fields": {"body": "…"}}.')
    lane = read.get("lane", "")
    if not isinstance(lane, str):
        raise BadRequest(f"lane must be a text, not {lane!r:.40}.")
    flat: list[bytes] = []
    for name, value in read["fields"].items():
        flat += (name.encode(), _value(name, value))
    return EntryLine(lane, flat)


def _value(name: str, value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and isinstance(text := value.get(BASE64), str) and len(value) == 1:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise BadRequest(f"The field {name!r:.40} is not base64: {error}") from None
    raise BadRequest(f'The value of the field {name!r:.40} must be a text or {{"{BASE64}": "…"}}.')
