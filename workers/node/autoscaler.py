"""Decides how many replicas elastic model versions have: a thread of each node; one decides at a time.

That is the one of the node with the lease. When it ends, another one goes on from the decisions in the
registry. Only a cluster with an elastic version has such threads.
"""

import logging
import threading
from dataclasses import dataclass, field, replace

import redis

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.control.autoscaling import Autoscaling
from marq.control.load_meter import LoadMeter
from marq.queue import depth
from marq.registry.models import Registry
from marq.registry.name_lease import NameLease, Owner
from marq.registry.sizes import placement
from marq.registry.snapshot import Models, Snapshot
from marq.registry.spec import ModelSpec

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
JOIN_S = 2.0  # Redis may not answer
LEASE_MS = 3000  # another node goes on so soon after the end of the one that decided


@dataclass
class _Followed:
    """An elastic version, with what was measured of it."""

    rule: Autoscaling
    meter: LoadMeter = field(default_factory=LoadMeter)


class Autoscaler:
    """The decisions of this node, while it has the lease."""

    def __init__(self, client: RedisClient) -> None:
        self._redis, self._registry = client, Registry(client)
        self._lease = NameLease(client, keys.AUTOSCALER, Owner.this_process(), LEASE_MS)
        self._followed: dict[str, _Followed] = {}

    def look(self) -> None:
        """Looks at all elastic versions once, and decides. Raises redis.RedisError."""
        if self._lease.hold():
            self._followed.clear()
            return
        snapshot = self._registry.snapshot()
        elastic = [spec for spec in snapshot.models if spec.is_elastic]
        self._forget({spec.key for spec in elastic}, snapshot.models)
        for spec, queue in zip(elastic, depth.read(self._redis, elastic).values(), strict=True):
            self._decide(spec, snapshot, queue)

    def release(self) -> None:
        """Lets another node decide at once. Raises redis.RedisError."""
        self._lease.release()

    def _decide(self, spec: ModelSpec, snapshot: Snapshot, queue: depth.Depth) -> None:
        followed = self._follow(spec, snapshot)
        is_idle = queue.oldest_s is None
        load = followed.meter.look(snapshot.moment, queue.waiting, is_idle, snapshot.of(spec))
        decision = followed.rule.look(snapshot.moment, spec, load, placement.most(spec, snapshot.hosts))
        if decision:
            self._registry.decide(spec, replace(decision, moment=snapshot.moment))
            log.info(
                "%s: %d -> %d replicas: %s", spec.key, decision.before, decision.replicas, decision.reason
            )

    def _follow(self, spec: ModelSpec, snapshot: Snapshot) -> _Followed:
        size = snapshot.models.size(spec)
        followed = self._followed.get(spec.key)
        if followed is None:
            rule = Autoscaling(snapshot.moment, size, snapshot.models.decisions.get(spec.key))
            followed = self._followed[spec.key] = _Followed(rule)
        followed.rule.size = size  # another one than it decided, where the bounds have changed
        return followed

    def _forget(self, elastic: set[str], models: Models) -> None:
        """Drops the decisions on versions that are not elastic any more."""
        for key in self._followed.keys() - elastic:
            del self._followed[key]
        if gone := models.decisions.keys() - elastic:
            self._redis.hdel(keys.SIZES, *gone)


class AutoscalerThread:
    """Runs the autoscaler from the first call of `start` until `stop`."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Does nothing where it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="autoscaler", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        """A failure ends one look, never the thread; one that repeats is logged once."""
        shown = ""
        with clients.client(self._url) as client:
            autoscaler = Autoscaler(client)
            while not self._stopping.wait(LOOK_EVERY_S):
                try:
                    autoscaler.look()
                    shown = ""
                except Exception as error:
                    if (failure := f"{type(error).__name__}: {error}") != shown:
                        expected = isinstance(error, redis.RedisError)
                        log.warning(
                            "the number of replicas cannot be decided: %s", error, exc_info=not expected
                        )
                    shown = failure
            try:
                autoscaler.release()
            except redis.RedisError as error:
                log.debug("the lease of the autoscaler runs out by itself: %s", error)
