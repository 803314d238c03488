"""Refuses connections that would take a gateway's last file descriptors.

The process needs some itself: to connect to Redis again, to rotate a log. Without this limit idle clients
could hold all of them, and the event loop would close new connections without an answer.
"""

import asyncio
import logging
import resource

from marq.metrics.measurements import Timer

log = logging.getLogger(__name__)

SPARE = 64
WARN_EVERY_S = 60.0

_warning = Timer(WARN_EVERY_S)


def are_short(transport: asyncio.BaseTransport) -> bool:
    """Whether this new connection took one of the last file descriptors.

    The kernel gives out the lowest free number, so a high number means that many are open.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if transport.get_extra_info("socket").fileno() < limit - SPARE:
        return False
    _warn(limit)
    return True


def _warn(limit: int) -> None:
    if _warning.is_due():
        log.warning(
            "refusing connections: the limit of %d open files (ulimit -n) is nearly reached; "
            "raise the hard limit, or run more gateways",
            limit,
        )
