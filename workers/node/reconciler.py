"""The node: runs on this host what the registry asks for.

It keeps no state of its own: it compares the registry with what runs here, leases replica slots, and starts,
grows, shrinks and stops pools. The management stream wakes it; it compares every second in any case.
"""

import contextlib
import logging
import time
from functools import partial

import redis

from marq import gpus, keys, logs
from marq.connections import clients
from marq.host.node_name import NameTaken, NodeLease
from marq.host.stop_limit import StopLimit
from marq.jobs import schedule
from marq.payloads.place import Place
from marq.registry import changes
from marq.registry.consumers import pool_name
from marq.registry.memory import Memory
from marq.registry.models import HEARTBEAT_S, Registry
from marq.registry.spec import ModelSpec
from marq.settings import fields
from marq.workflows.timeouts import end_overdue
from workers import devices
from workers.launch import PoolSpec
from workers.node.host_metrics import SystemMetrics
from workers.node.leases import Leases
from workers.node.pool_process import PoolProcess
from workers.node.preparation import Preparation, Preparations, Prepared
from workers.scoreboard import remove_if

log = logging.getLogger(__name__)

STOP_MARGIN_S = 10.0  # beyond the stop limit: pools end late replicas themselves before
RESTART_EVERY_S = 2.0  # a pool that ends as soon as it has started is not started again at once
TIDY_EVERY_S = 3600.0
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
        self._leases = Leases(self._redis, name)
        self._gpus = gpus.visible(config.number_of_gpu)
        self._metrics = SystemMetrics(config, len(self._gpus))
        self._pools: dict[str, PoolProcess] = {}
        self._leaving: list[PoolProcess] = []
        self._preparations = Preparations(config, on_done=partial(self._wake, "unpacked"))
        self._preparing: dict[str, Preparation] = {}  # also finished ones, until their pool starts
        self._place = Place.of(config)
        self._wanted: set[str] = set()  # names of pools
        self._tidy_at = self._sweep_at = 0.0
        self._seen = b""
        self._devices_given = 0
        self._stop_limit = StopLimit(config.stop_timeout)
        self._stopping = False

    def run(self) -> None:
        """Reconciles until `stop_soon`, then drains all pools.

        Raises NameTaken if another live node has the name: at the start, or after this one was stopped for
        longer than the heartbeat limit. Its pools have ended then.
        """
        while not self._stopping:
            try:
                self._lease.hold()
                self.reconcile()
                self._metrics.collect_if_due(self._redis)
                self._sweep_if_due()
                self._sleep()
            except NameTaken:
                self._end_pools()
                raise
            except redis.RedisError as error:
                log.warning(
                    "the registry cannot be compared with this host, next attempt in %g s: %s",
                    HEARTBEAT_S,
                    error,
                )
                time.sleep(HEARTBEAT_S)
        self._end_pools()
        self._give_back()

    def reconcile(self) -> None:
        """Compares the registry with the pools of this host once. Raises redis.RedisError."""
        self._seen = self._seen or self._last_change()
        self._leaving = [pool for pool in self._leaving if not pool.has_ended]
        models, nodes = self._memory.models(), self._leases.heartbeat()
        wanted = {spec.key: spec for spec in models}
        self._wanted = {pool_name(spec, self._name) for spec in models}
        self._stop_limit.note(spec.response_timeout_s for spec in models)
        for key in self._pools.keys() - wanted.keys():
            self._retire(key)
        for key in self._preparing.keys() - wanted.keys():
            self._forget(key)
        sizes = self._leases.hold(wanted.values(), nodes)
        replicas = sum(sizes.values())
        for key, spec in wanted.items():
            self._ensure(spec, sizes[key], replicas)
        schedule.queue_due(self._redis, wanted.values())
        end_overdue(self._redis)
        self._tidy(wanted)

    def _ensure(self, spec: ModelSpec, size: int, replicas: int) -> None:
        pool = self._pools.get(spec.key)
        if pool and spec.needs_new_replicas(pool.spec.model):
            self._retire(spec.key)
            return  # the new pool starts when the old one is gone
        if pool and not pool.has_ended:
            report = self._registry.reports(spec).get(pool.spec.name)
            pool.resize(size, report)
            pool.reload(spec.generation, report)
            pool.log_ready(size, report)
            return
        if pool:
            if time.monotonic() - pool.started < RESTART_EVERY_S:
                return
            log.error("pool %s has ended; starting it again", pool.spec.name)
            del self._pools[spec.key]
        if not any(leaving.spec.model.key == spec.key for leaving in self._leaving):
            self._start(spec, size, replicas)

    def _start(self, spec: ModelSpec, size: int, replicas: int) -> None:
        """Starts a pool if this host has replicas of the version, once the version is prepared."""
        if (size or spec.has_dependencies) and (prepared := self._prepare(spec, size)) and size:
            del self._preparing[spec.key]
            pool_spec = self._pool_spec(spec, prepared, replicas)
            self._pools[spec.key] = PoolProcess(pool_spec, size, on_end=partial(self._wake, "ended"))

    def _prepare(self, spec: ModelSpec, size: int) -> Prepared | None:
        """The prepared version, or None for now: then the registry has a report on the preparation.

        Dependencies are installed also where no replica is to run: a registration waits for the outcome.
        """
        preparation = self._preparing.get(spec.key)
        if preparation is None or spec.needs_new_replicas(preparation.spec):
            preparation = self._preparations.begin(spec, pool_name(spec, self._name))
            self._preparing[spec.key] = preparation
        preparation.advance()
        if preparation.failing or (spec.has_dependencies and not preparation.reported):
            self._registry.report(spec, pool_name(spec, self._name), preparation.report(self._name, size))
            preparation.reported = preparation.prepared is not None
        return preparation.prepared

    def _forget(self, key: str) -> None:
        spec = self._preparing.pop(key).spec
        self._registry.withdraw(spec, pool_name(spec, self._name))

    def _tidy(self, wanted: dict[str, ModelSpec]) -> None:
        """Deletes unused files once an hour, when each preparation has succeeded or failed at least once."""
        preparations = self._preparing.values()
        if time.monotonic() < self._tidy_at or not all(each.settled for each in preparations):
            return
        self._tidy_at = time.monotonic() + TIDY_EVERY_S
        pools = [pool.spec for pool in (*self._pools.values(), *self._leaving)]
        used = [path for pool in pools for path in pool.paths]
        for prepared in filter(None, (each.prepared for each in preparations)):
            used += prepared.paths
        self._preparations.tidy(wanted.values(), used)

    def _sweep_if_due(self) -> None:
        """Removes the files of processes that have ended without doing so: payloads, scoreboards."""
        if time.monotonic() < self._sweep_at:
            return
        self._sweep_at = time.monotonic() + SWEEP_EVERY_S
        if self._place:
            self._place.sweep()
        remove_if(self._config.state_dir / "run", self._has_ended)

    def _has_ended(self, pool: str) -> bool:
        """Whether a pool of this node has ended, and no other one will read its scoreboards."""
        running = {process.spec.name for process in (*self._pools.values(), *self._leaving)}
        return pool.endswith(f"@{self._name}") and pool not in self._wanted | running

    def _pool_spec(self, spec: ModelSpec, prepared: Prepared, replicas: int) -> PoolSpec:
        config, first = self._config, self._devices_given
        self._devices_given += spec.min_workers
        return PoolSpec(
            model=spec,
            node=self._name,
            owner=str(self._lease.owner),
            unpacked=str(prepared.unpacked),
            model_dir=str(prepared.model_dir),
            redis_url=config.redis_url,
            run_dir=str(config.state_dir / "run"),
            log_file=str(config.log_dir / logs.MODEL_LOG),
            log_on_console=config.model_log_on_console,
            gpus=self._gpus,
            first_device=first,
            threads=devices.threads_per_replica(replicas),
            max_response_size=config.max_response_size,
            job_result_ttl_ms=config.job_result_ttl_s * 1000,
            decode_input=config.decode_input_request,
            max_form_fields=config.max_form_fields,
            limit_max_image_pixels=config.limit_max_image_pixels,
            metrics_mode=config.metrics_mode,
            metrics_config=str(config.metrics_config or ""),
            metrics_auto_detect=config.model_metrics_auto_detect,
            metrics_location=str(config.metrics_log_dir),
            python=prepared.python,
            dependency_dir=prepared.dependency_dir,
            payload_dir=str(self._place.directory) if self._place else "",
            payload_threshold=config.payload_threshold,
            hidden_variables=config.blacklist_env_vars,
            sequence_headers=config.sequence_headers,
        )

    def _retire(self, key: str) -> None:
        pool = self._pools.pop(key)
        pool.drain()
        self._leaving.append(pool)
        self._leases.release(pool.spec.model)

    def _last_change(self) -> bytes:
        """The id of the newest entry: `_sleep` then sees all later ones, however early they come."""
        found = self._redis.xrevrange(keys.MANAGEMENT, count=1)
        return found[0][0] if found else b"0-0"

    def _sleep(self) -> None:
        """Waits for a change of the registry, at most as long as a heartbeat."""
        found = self._redis.xread({keys.MANAGEMENT: self._seen}, block=int(HEARTBEAT_S * 1000))
        if not found:
            return
        entries = found[0][1]
        self._seen = entries[-1][0]
        for _, change in entries:
            if change.get(b"action") in (b"register", b"put"):
                self._prepare_again(b"%b/%b" % (change[b"model"], change[b"version"]))

    def _prepare_again(self, key: bytes) -> None:
        """Prepares a model that is registered again at once: the cause of a failure may be gone."""
        preparation = self._preparing.get(key.decode())
        if preparation and preparation.settled:
            self._forget(preparation.spec.key)

    def _wake(self, what: str) -> None:
        """Makes the node compare now; for other threads."""
        with contextlib.suppress(redis.RedisError):  # the node compares when Redis answers again
            changes.announce(self._redis, {"action": what, "node": self._name})

    def stop_soon(self, *_: object) -> None:
        """A signal handler: ends `run` after the current comparison."""
        self._stopping = True

    def _end_pools(self) -> None:
        pools = [*self._pools.values(), *self._leaving]
        self._preparations.stop()
        for pool in pools:
            pool.drain()
        timeout_s = self._stop_limit.seconds + STOP_MARGIN_S
        deadline = time.monotonic() + timeout_s
        for pool in pools:
            if not pool.wait(max(0.1, deadline - time.monotonic())):
                log.error("pool %s has not ended within %g s and is killed", pool.spec.name, timeout_s)
                pool.kill()

    def _give_back(self) -> None:
        try:
            for spec in self._registry.models():
                self._leases.release(spec)
            self._leases.leave()
            self._lease.release()
        except redis.RedisError as error:
            log.warning(
                "the leases of node %s cannot be given back; others get them when they run out: %s",
                self._name,
                error,
            )
