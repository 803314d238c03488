"""The body of a request, from the `input` of a message: the handler's row has one key for each entry."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from marq import forms
from marq.errors import BadRequest
from marq.queue.ids import new_id

BODY = "body"  # the key of a body without a type
LONGEST_NAME = 1_000  # bytes
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class Body(NamedTuple):
    """The fields `type` and `body` of a queue entry."""

    type: bytes
    content: bytes


def body_of(entries: Mapping[str, bytes]) -> Body:
    """The body whose row has these keys, all with bytes. Raises BadRequest for a name that cannot be one."""
    if not entries:
        return Body(forms.FORM.encode(), b"")
    if BODY in entries and len(entries) == 1:
        return Body(b"", entries[BODY])
    given = list(entries.items())
    boundary = _boundary(value for _, value in given)
    parts = [
        piece for name, value in given for piece in (b"--%b\r\n" % boundary, _head(name), value, b"\r\n")
    ]
    parts.append(b"--%b--\r\n" % boundary)
    return Body(b"%b; boundary=%b" % (forms.MULTIPART.encode(), boundary), b"".join(parts))


def _boundary(values: Iterable[bytes]) -> bytes:
    """The one of this process; a new one where a value has it, so that a part cannot be made up."""
    return new_boundary() if any(BOUNDARY in value for value in values) else BOUNDARY


def new_boundary() -> bytes:
    """A boundary at random."""
    return b"marq-" + new_id()


BOUNDARY = new_boundary()  # the same for most requests: their entries then share a head


@lru_cache
def _head(name: str) -> bytes:
    return b'Content-Disposition: form-data; name="%b"\r\n\r\n' % _quoted(name)


def _quoted(name: str) -> bytes:
    encoded = name.encode()
    if _CONTROL.search(name) or len(encoded) > LONGEST_NAME:
        raise BadRequest(
            f"The name of an input must have at most {LONGEST_NAME} bytes and no control characters, "
            f"not {name[:40]!r}."
        )
    return encoded.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
