"""One bridge at a time takes the tasks of a queue; others stand by."""

import logging
import os
import socket
import time
from collections.abc import Callable

import psutil

from marq import keys
from marq.connections.commands import RedisClient
from marq.errors import MarqError
from marq.registry.models import HEARTBEAT_S
from marq.registry.name_lease import Held, NameLease, Owner

log = logging.getLogger(__name__)


class OwnershipLost(MarqError):
    """Raised when another bridge has taken the queue over, because this one was paused."""


class Ownership:
    """The lease of a queue. Raises redis.RedisError."""

    def __init__(self, client: RedisClient, queue: str) -> None:
        self._client, self._key = client, keys.bridge(queue, "owner")
        self._lease = NameLease(client, self._key, Owner.this_process())
        self._renewed = 0.0

    def wait(self, is_stopping: Callable[[], bool]) -> bool:
        """Takes the queue, as soon as no other bridge has it; False if the stop comes first."""
        said = ""
        while held := self._lease.hold():
            if is_stopping():
                return False
            if _has_ended(held):
                self._lease = NameLease(self._client, self._key, Owner.this_process(held.owner.token))
                continue
            if held.owner.token != said:
                said = held.owner.token
                log.info("standing by: %s takes the tasks of this queue", held.owner.shown)
            time.sleep(HEARTBEAT_S)
        self._renewed = time.monotonic()
        return True

    def renew(self) -> None:
        """Keeps the queue; cheap enough to be called often. Raises OwnershipLost."""
        if time.monotonic() - self._renewed < HEARTBEAT_S:
            return
        if held := self._lease.hold():
            raise OwnershipLost(f"{held.owner.shown} has taken this queue over")
        self._renewed = time.monotonic()

    def release(self) -> None:
        self._lease.release()


def _has_ended(held: Held) -> bool:
    """Whether the owner was a process of this host that has ended: its lease need not run out."""
    owner = held.owner
    return (
        owner.host == socket.gethostname() and owner.pid != os.getpid() and not psutil.pid_exists(owner.pid)
    )
