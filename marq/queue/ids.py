"""Random version-4 UUIDs, made several times faster than `uuid.uuid4` (one is needed for each request)."""

import os

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
    digits = os.urandom(16 * BLOCK).hex()
    return [_format(digits[at : at + 32]) for at in range(0, len(digits), 32)]


def _format(digits: str) -> bytes:
    variant = "89ab"[int(digits[16], 16) & 3]
    text = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
    return text.encode()
