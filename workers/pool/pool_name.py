"""The lease of a pool's name: two pools of one name would take each other's entries for lost."""

import logging
import time
from collections.abc import Callable

from marq import keys
from marq.connections.commands import RedisClient
from marq.registry.models import HEARTBEAT_S
from marq.registry.name_lease import NameLease, Owner
from workers.launch import PoolSpec

log = logging.getLogger(__name__)


class PoolName:
    """Held in the name of the pool's node, so that a pool which its node starts again has it at once."""

    def __init__(
        self, client: RedisClient, spec: PoolSpec, clock: Callable[[], float] = time.monotonic
    ) -> None:
        key = keys.pool_owner(spec.model.name, spec.name)
        self._lease = NameLease(client, key, Owner.parse(spec.owner))
        self._pool, self._clock = spec.name, clock
        self._asked: float | None = None
        self._is_held = False
        self._other: Owner | None = None

    def is_held(self) -> bool:
        """Whether this pool may work; takes or renews the lease once a heartbeat. Raises redis.RedisError."""
        now = self._clock()
        if self._asked is None or now - self._asked >= HEARTBEAT_S:
            self._asked = now  # also where Redis is away: the last answer counts until the next one
            found = self._lease.hold()
            self._is_held = found is None
            self._note(found.owner if found else None)
        return self._is_held

    def release(self) -> None:
        """Gives the name back. Raises redis.RedisError."""
        self._lease.release()

    def _note(self, other: Owner | None) -> None:
        if other and other != self._other:
            log.error(
                "another pool named %s is alive, started by %s: this one runs nothing until that has ended",
                self._pool,
                other.shown,
            )
        self._other = other
