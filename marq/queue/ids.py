"""Ids of requests and jobs.

Request ids are random version-4 UUIDs, made several times faster than by `uuid.uuid4`.
"""

import os
import struct
from dataclasses import dataclass

from marq.errors import JobNotFound

PARTS = struct.Struct("8s4sx3ss3s12s")  # of the 32 digits; the one left out is the version
TEXT = b"%b-%b-4%b-%b%b-%b"
VARIANT = {b"%x" % digit: b"89ab"[digit & 3 :][:1] for digit in range(16)}
BLOCK = 256  # ids made from one read of the system's random source

_ready: list[bytes] = []
os.register_at_fork(after_in_child=_ready.clear)


@dataclass(frozen=True, slots=True)
class JobId:
    """The id of a job that clients see. It names the model, so that the key of its record can be built."""

    model: str
    request_id: str

    @classmethod
    def parse(cls, text: str) -> "JobId":
        """Raises JobNotFound for a text that is not a job id."""
        model, separator, request_id = text.partition(":")
        if not separator or not model or not request_id or set("{}") & set(model):
            raise JobNotFound(f"Job not found: {text}")
        return cls(model, request_id)

    def __str__(self) -> str:
        return f"{self.model}:{self.request_id}"


def new_id() -> bytes:
    """The next id (RFC 9562, version 4) as text. Safe in threads and in forked processes."""
    while True:
        try:
            return _ready.pop()
        except IndexError:
            _ready.extend(_make())


def _make() -> list[bytes]:
    digits = os.urandom(16 * BLOCK).hex().encode()
    return [TEXT % (a, b, c, VARIANT[d], e, f) for a, b, c, d, e, f in PARTS.iter_unpack(digits)]
