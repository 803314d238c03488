"""The node: runs on this host what the registry asks for.

It keeps no state of its own: it compares the registry with what runs here, leases replica slots, and starts,
grows, shrinks and stops pools. The management stream wakes it; it compares every second in any case.
"""

import contextlib
import logging
import threading
import time
from queue import SimpleQueue

import redis

from marq import gpus, keys
from marq.admission import default_lanes
from marq.connections import clients
from marq.host.node_name import NameTaken, NodeLease
from marq.host.stop_limit import StopLimit
from marq.jobs import schedule
from marq.jobs.file_sweep import FileSweep
from marq.payloads.place import Place
from marq.registry import changes
from marq.registry.memory import Memory
from marq.registry.models import HEARTBEAT_S, Registry
from marq.registry.snapshot import Models
from marq.settings import fields
from marq.workflows.timeouts import end_overdue
from workers.node.autoscaler import AutoscalerThread
from workers.node.host_metrics import SystemMetrics
from workers.node.pools import Pools, Surroundings
from workers.node.slots import Slots, this_host
from workers.scoreboard import remove_if

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 5.0


class Node:
    """All pools of one host."""

    def __init__(self, config: fields.Settings, name: str) -> None:
        """Raises NameTaken if a live node of this host has the name."""
        self._config, self._name = config, name
        self._redis = clients.client(config.redis_url)
        self._lease = NodeLease(self._redis, name, config.state_dir)
        self._registry = Registry(self._redis)
        self._memory = Memory(self._registry)
        host = this_host(gpus.found(config.number_of_gpu))
        self._slots = Slots(self._redis, name, host)
        self._metrics = SystemMetrics(config, len(host.devices))
        self._place = Place.of(config)
        shared = Surroundings(config, name, str(self._lease.owner), host, self._place)
        self._pools = Pools(shared, self._registry, self._slots, self._wake)
        self._files = FileSweep(jobs, self._redis) if (jobs := self._place and self._place.jobs) else None
        self._autoscaler = AutoscalerThread(config.redis_url)
        self._sweep_at = 0.0
        self._seen = b""
        self._default_lanes: dict[str, str] = {}
        self._stop_limit = StopLimit(config.stop_timeout)
        self._stopping = False
        self._stops: SimpleQueue[None] = SimpleQueue()

    def run(self) -> None:
        """Reconciles until `stop_soon`, then drains all pools.

        Raises NameTaken if another live node has the name: at the start, or after this one was stopped for
        longer than the heartbeat limit. Its pools have ended then.
        """
        fails = False
        if not self._stopping:
            threading.Thread(target=self._wake_at_stop, name="stop", daemon=True).start()
        while not self._stopping:
            try:
                self._lease.hold()
                self.reconcile()
                self._metrics.collect_if_due(self._redis)
                self._sweep_if_due()
                if self._files:
                    self._files.go_on_if_due()
                self._sleep()
            except NameTaken:
                self._end()
                raise
            except redis.RedisError as error:
                if not fails:
                    log.warning(
                        "the registry cannot be compared with this host, trying each %g s: %s",
                        HEARTBEAT_S,
                        error,
                    )
                fails = True
                time.sleep(HEARTBEAT_S)
            else:
                fails = False
        self._end()
        self._give_back()

    def reconcile(self) -> None:
        """Compares the registry with the pools of this host once. Raises redis.RedisError."""
        self._seen = self._seen or self._last_change()
        models = self._memory.models()
        wanted = {spec.key: spec for spec in models}
        self._stop_limit.note(spec.response_timeout_s for spec in models)
        self._pools.retire_others(wanted)
        sizes = self._slots.hold(models)
        self._pools.adjust(wanted, sizes, _resting(models))
        if any(spec.is_elastic for spec in models):
            self._autoscaler.start()
        schedule.queue_due(self._redis, wanted.values())
        self._default_lanes = default_lanes.of(models)
        end_overdue(self._redis)

    def _sweep_if_due(self) -> None:
        """Removes the files of processes that have ended without doing so: payloads, scoreboards."""
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SWEEP_EVERY_S
        if self._place:
            self._place.sweep()
        remove_if(self._config.state_dir / "run", self._pools.have_ended)

    def _last_change(self) -> bytes:
        """The id of the newest entry: `_sleep` then sees all later ones, however early they come."""
        found = self._redis.xrevrange(keys.MANAGEMENT, count=1)
        return found[0][0] if found else b"0-0"

    def _sleep(self) -> None:
        """Waits for a change of the registry, at most as long as a heartbeat.

        Requests without a version are passed on at once.
        """
        streams = {keys.MANAGEMENT: self._seen, **dict.fromkeys(self._default_lanes, b"0")}
        found = self._redis.xread(streams, count=1, block=int(HEARTBEAT_S * 1000))
        lanes = [stream.decode() for stream, _ in found if stream != keys.MANAGEMENT.encode()]
        if lanes:
            default_lanes.forward(self._redis, {lane: self._default_lanes[lane] for lane in lanes})
        if len(lanes) < len(found):
            self._note(self._redis.xread({keys.MANAGEMENT: self._seen})[0][1])

    def _note(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Takes notice of changes of the registry."""
        self._seen = entries[-1][0]
        for _, change in entries:
            if change.get(b"action") in (b"register", b"put"):
                self._pools.prepared.prepare_again(
                    (b"%b/%b" % (change[b"model"], change[b"version"])).decode()
                )

    def _wake(self, what: str) -> None:
        """Makes the node compare now; for other threads."""
        with contextlib.suppress(redis.RedisError):  # the node compares when Redis answers again
            changes.announce(self._redis, {"action": what, "node": self._name})

    def stop_soon(self, *_: object) -> None:
        """A signal handler: ends `run` after the current comparison."""
        self._stopping = True
        self._stops.put(None)

    def _wake_at_stop(self) -> None:
        """Ends the wait for a change, in a thread: a signal handler must not use the connections to Redis."""
        self._stops.get()
        self._wake("stop")

    def _end(self) -> None:
        self._autoscaler.stop()
        self._pools.end(self._stop_limit.seconds)

    def _give_back(self) -> None:
        try:
            for spec in self._registry.models():
                self._slots.release(spec)
            self._slots.leave()
            self._lease.release()
        except redis.RedisError as error:
            log.warning(
                "the leases of node %s cannot be given back; others get them when they run out: %s",
                self._name,
                error,
            )


def _resting(models: Models) -> set[str]:
    """The keys of the versions that have no replica while no request comes."""
    return {spec.key for spec in models if spec.may_rest and not models.size(spec)}
