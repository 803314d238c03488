"""Which replica slots of a model version run on this host: leases in Redis, renewed while the node lives."""

from typing import Any

from marq import keys
from marq.registry.liveness import Patience
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.spec import ModelSpec

LEASE_MS = int(HEARTBEAT_LIMIT_S * 1000)


class Leases:
    """This node's slots. There is no leader: a lost node's leases run out and others take them.

    While Redis is away all leases run out: afterwards each node first takes what it had before.
    """

    def __init__(self, client: Any, node: str) -> None:
        self._redis, self._node = client, node
        self._patience, self._may_judge = Patience(), True
        self._held: dict[str, set[int]] = {}  # by model version

    def heartbeat(self) -> int:
        """Tells that this node lives; returns how many nodes do."""
        seconds, _ = self._redis.time()
        now = float(seconds)
        self._may_judge = self._patience.look()
        self._redis.zadd(keys.NODES, {self._node: now})
        self._redis.zremrangebyscore(keys.NODES, 0, now - HEARTBEAT_LIMIT_S)
        return int(self._redis.zcard(keys.NODES))

    def hold(self, spec: ModelSpec, nodes: int) -> int:
        """Renews and takes slots, gives back surplus ones; returns how many this node holds.

        A node takes no more than its even share, rounded up, so that slots spread over the hosts.
        """
        share = -(-spec.min_workers // max(1, nodes))
        owners = self._owners(spec, range(spec.min_workers))
        own = [number for number, owner in enumerate(owners) if owner == self._node]
        held = {number for number in own[:share] if self._renew(spec, number)}
        for number in own[share:]:
            self._redis.delete(keys.slot(spec.name, spec.version, number))
        before = self._held.get(spec.key, set())
        for number, owner in enumerate(owners):
            free = owner is None and (self._may_judge or number in before)
            if free and len(held) < share and self._take(spec, number):
                held.add(number)
        self._held[spec.key] = held
        return len(held)

    def release(self, spec: ModelSpec, keep: int = 0) -> None:
        """Gives back this node's slots from number `keep` on."""
        numbers = range(keep, max(keep, spec.max_workers, spec.min_workers))
        for number, owner in zip(numbers, self._owners(spec, numbers), strict=True):
            if owner == self._node:
                self._redis.delete(keys.slot(spec.name, spec.version, number))

    def leave(self) -> None:
        self._redis.zrem(keys.NODES, self._node)

    def _owners(self, spec: ModelSpec, numbers: range) -> list[str | None]:
        names = [keys.slot(spec.name, spec.version, number) for number in numbers]
        owners = self._redis.mget(names) if names else []
        return [owner.decode() if owner else None for owner in owners]

    def _renew(self, spec: ModelSpec, number: int) -> bool:
        return bool(self._redis.pexpire(keys.slot(spec.name, spec.version, number), LEASE_MS))

    def _take(self, spec: ModelSpec, number: int) -> bool:
        name = keys.slot(spec.name, spec.version, number)
        return bool(self._redis.set(name, self._node, nx=True, px=LEASE_MS))
