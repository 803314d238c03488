"""The slots of this node: how many replicas of each version run here, by the devices of all hosts."""

import logging

from marq import gpus
from marq.connections.commands import RedisClient
from marq.registry.sizes import hosts, placement
from marq.registry.sizes.hosts import Device, Host
from marq.registry.snapshot import Models
from marq.registry.spec import ModelSpec
from workers.devices import cores
from workers.node.leases import Demand, Leases

log = logging.getLogger(__name__)


def this_host(found: gpus.Found) -> Host:
    devices = (Device(number, memory, name) for number, (memory, name) in enumerate(found.devices))
    return Host(found.kind, tuple(devices), cores())


class Slots:
    """Publishes this host's devices, and holds the leases of its slots."""

    def __init__(self, client: RedisClient, node: str, host: Host) -> None:
        self._redis, self._node, self._host = client, node, host
        self._leases = Leases(client, node)
        self._unplaced: dict[str, str] = {}  # sentences that were logged, by the versions' keys

    def hold(self, models: Models) -> dict[str, int]:
        """Reports that this node lives; returns how many replicas of each version it runs.

        Raises redis.RedisError.
        """
        self._leases.heartbeat()
        there = hosts.read(self._redis)
        if there.get(self._node) != self._host:
            hosts.publish(self._redis, self._node, self._host)
            there[self._node] = self._host
        demands = [self._demand(spec, models.size(spec), there) for spec in models]
        self._log_unplaced({demand.spec.key: demand for demand in demands}, there)
        return self._leases.hold(demands)

    def release(self, spec: ModelSpec) -> None:
        """Gives back this node's slots of a version. Raises redis.RedisError."""
        self._leases.release(spec)

    def leave(self) -> None:
        """Raises redis.RedisError."""
        self._leases.leave()
        hosts.withdraw(self._redis, self._node)

    def _demand(self, spec: ModelSpec, size: int, there: dict[str, Host]) -> Demand:
        return Demand(spec, size, placement.share(spec, size, there, self._node))

    def _log_unplaced(self, demands: dict[str, Demand], there: dict[str, Host]) -> None:
        """Logs each sentence once, until the replicas have their devices."""
        found = {key: placement.unplaced(each.spec, each.size, there) for key, each in demands.items()}
        for key, sentence in found.items():
            if sentence and self._unplaced.get(key) != sentence:
                log.warning("%s", sentence)
        self._unplaced = found
