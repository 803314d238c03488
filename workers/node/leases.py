"""Which replica slots of a model version run on this host: leases in Redis, renewed while the node lives."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice

from marq import keys
from marq.connections.commands import RedisClient
from marq.registry.liveness import TakeoverGuard
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.spec import ModelSpec

LEASE_MS = int(HEARTBEAT_LIMIT_S * 1000)


@dataclass(frozen=True)
class Demand:
    """The slots of one version that are wanted, and how many of them this node may hold."""

    spec: ModelSpec
    size: int  # on all nodes together
    share: int


class Leases:
    """This node's slots. There is no leader: a lost node's leases run out and others take them.

    While Redis is away all leases run out: afterwards each node first takes what it had before.
    """

    def __init__(self, client: RedisClient, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._node = client, node
        self._guard, self._may_take_over = TakeoverGuard(clock), True
        self._held: dict[str, set[int]] = {}  # by model version

    def heartbeat(self) -> int:
        """Reports that this node lives; returns how many nodes do."""
        seconds, _ = self._redis.time()
        now = float(seconds)
        self._may_take_over = self._guard.may_take_over()
        self._redis.zadd(keys.NODES, {self._node: now})
        self._redis.zremrangebyscore(keys.NODES, 0, now - HEARTBEAT_LIMIT_S)
        return int(self._redis.zcard(keys.NODES))

    def hold(self, demands: Collection[Demand]) -> dict[str, int]:
        """Renews and takes slots, gives back surplus ones; returns how many of each version this node holds.

        Two round trips, however many versions there are, while no slot changes its owner.
        """
        owners = self._owners_of([demand.spec for demand in demands])
        renewed = self._renew(demands, owners)
        for demand, found in zip(demands, owners, strict=True):
            spec = demand.spec
            before, held = self._held.get(spec.key, set()), renewed[spec.key]
            for number, owner in enumerate(found[: demand.size]):
                free = owner is None and (self._may_take_over or number in before)
                if free and len(held) < demand.share and self._take(spec, number):
                    held.add(number)
            self._held[spec.key] = held
        return {key: len(held) for key, held in renewed.items()}

    def _owners_of(self, specs: Iterable[ModelSpec]) -> list[list[str | None]]:
        """The owners of all slots of each version, also of those that are not wanted any more."""
        sizes = [(spec, max(spec.min_workers, spec.max_workers)) for spec in specs]
        names = [keys.slot(spec.name, spec.version, number) for spec, size in sizes for number in range(size)]
        found = iter(self._redis.mget(names) if names else [])
        return [[owner.decode() if owner else None for owner in islice(found, size)] for _, size in sizes]

    def _renew(self, demands: Iterable[Demand], owners: list[list[str | None]]) -> dict[str, set[int]]:
        """Renews this node's share of its slots and gives back the others; returns the renewed ones."""
        kept: list[tuple[str, int]] = []
        surplus: list[str] = []
        with self._redis.pipeline(transaction=False) as pipe:
            for demand, found in zip(demands, owners, strict=True):
                spec, wanted = demand.spec, 0
                for number in (number for number, owner in enumerate(found) if owner == self._node):
                    name = keys.slot(spec.name, spec.version, number)
                    if number < demand.size and wanted < demand.share:
                        wanted += 1
                        kept.append((spec.key, number))
                        pipe.pexpire(name, LEASE_MS)
                    else:
                        surplus.append(name)
            if surplus:
                pipe.delete(*surplus)
            replies = pipe.execute()
        held: dict[str, set[int]] = {demand.spec.key: set() for demand in demands}
        for (key, number), renewed in zip(kept, replies, strict=False):
            if renewed:
                held[key].add(number)
        return held

    def release(self, spec: ModelSpec) -> None:
        """Gives back this node's slots."""
        [owners] = self._owners_of([spec])
        for number, owner in enumerate(owners):
            if owner == self._node:
                self._redis.delete(keys.slot(spec.name, spec.version, number))

    def leave(self) -> None:
        self._redis.zrem(keys.NODES, self._node)

    def _take(self, spec: ModelSpec, number: int) -> bool:
        name = keys.slot(spec.name, spec.version, number)
        return bool(self._redis.set(name, self._node, nx=True, px=LEASE_MS))
