"""Random version-4 UUIDs, made several times faster than `uuid.uuid4` (one is needed for each request)."""

import os
from collections.abc import Iterator

BLOCK = 256  # ids made from one read of the system's random source


def uuids() -> Iterator[bytes]:
    """An endless stream of UUIDs as text (RFC 9562, version 4)."""
    while True:
        digits = os.urandom(16 * BLOCK).hex()
        for at in range(0, len(digits), 32):
            variant = "89ab"[int(digits[at + 16], 16) & 3]
            yield (
                f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-4{digits[at + 13 : at + 16]}"
                f"-{variant}{digits[at + 17 : at + 20]}-{digits[at + 20 : at + 32]}"
            ).encode()


_stream = uuids()
_owner = os.getpid()


def new_id() -> bytes:
    """The next id of this process; a forked child starts a stream of its own."""
    global _stream, _owner
    if os.getpid() != _owner:
        _stream, _owner = uuids(), os.getpid()
    return next(_stream)
