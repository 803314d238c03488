"""Connections that would take the last open files of a gateway are refused.

The process needs some itself, to reach Redis again after a restart or to rotate a log. Without this it would
have none while clients hold on, and the event loop would close new connections without a word.
"""

import asyncio
import logging
import resource
import time

log = logging.getLogger(__name__)

SPARE = 64
WARN_EVERY_S = 60.0

_warned = -WARN_EVERY_S


def are_short(transport: asyncio.BaseTransport) -> bool:
    """Whether the file of this new connection is one of the last.

    A new file gets the lowest free number: that of a late one tells how many are open.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if transport.get_extra_info("socket").fileno() < limit - SPARE:
        return False
    _warn(limit)
    return True


def _warn(limit: int) -> None:
    global _warned
    if time.monotonic() - _warned >= WARN_EVERY_S:
        _warned = time.monotonic()
        log.warning(
            "refusing connections: this process may have no more than %d files open (ulimit -n); "
            "raise the hard limit, or run more gateways", limit,
        )  # fmt: skip
