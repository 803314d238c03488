"""Time-outs of answers, from the request and its model."""

import math
import time

from gateway.asgi import Headers
from marq.errors import BadRequest

HEADER = b"x-request-timeout"  # seconds
LONGEST_S = 366 * 86_400


def timeout_s(headers: Headers, limit_ms: int = 0) -> float | None:
    """The shorter of the request's own time-out and `limit_ms`; 0 and None: as long as it takes.

    Raises BadRequest.
    """
    limits = [limit_ms / 1000] if limit_ms else []
    for name, value in headers:
        if name.lower() == HEADER:
            limits.append(_seconds(value))
    return min(limits, default=None)


def deadline(timeout_s: float | None) -> bytes:
    """The moment of a time-out that begins now, in unix ms; empty without a time-out."""
    return b"%d" % (1000 * (time.time() + timeout_s)) if timeout_s else b""


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_S:
        given = value[:40].decode("latin-1")
        raise BadRequest(
            f"X-Request-Timeout must be a number of seconds above 0, up to {LONGEST_S}, not {given!r}."
        )
    return seconds
