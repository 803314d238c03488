"""Random version-4 UUIDs, made several times faster than `uuid.uuid4` (one is needed for each request)."""

import os
import struct

PARTS = struct.Struct("8s4sx3ss3s12s")  # of the 32 digits; the one left out is the version
TEXT = b"%b-%b-4%b-%b%b-%b"
VARIANT = {b"%x" % digit: b"89ab"[digit & 3 :][:1] for digit in range(16)}
BLOCK = 256  # ids made from one read of the system's random source

_ready: list[bytes] = []
os.register_at_fork(after_in_child=_ready.clear)


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
