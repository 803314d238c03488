"""Refuses connections beyond `max_connections`, and those that would take a gateway's last file descriptors.

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
FILES = (
    "refusing connections: the limit of %d open files (ulimit -n) is nearly reached; "
    "raise the hard limit, or run more gateways"
)
CONNECTIONS = "refusing connections: %d are open (max_connections)"

_warning = Timer(WARN_EVERY_S)


def is_reached(transport: asyncio.BaseTransport, number: int, most: int) -> bool:
    """Whether a new connection is one too many. `number`: those that its address has, with it.

    The kernel gives out the lowest free file descriptor, so a high number means that many are open.
    """
    if number > most:
        _warn(CONNECTIONS, most)
        return True
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if transport.get_extra_info("socket").fileno() < limit - SPARE:
        return False
    _warn(FILES, limit)
    return True


def _warn(text: str, limit: int) -> None:
    if _warning.is_due():
        log.warning(text, limit)
