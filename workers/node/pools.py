"""The pools of this host: started, resized and retired as the registry asks for it."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from marq import logs
from marq.payloads.place import Place
from marq.registry.consumers import pool_name
from marq.registry.models import Registry
from marq.registry.sizes.hosts import Host
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings
from workers import devices
from workers.launch import PoolSpec
from workers.node.pool_process import PoolProcess
from workers.node.preparation import Prepared
from workers.node.prepared_models import PreparedModels
from workers.node.slots import Slots

log = logging.getLogger(__name__)

STOP_MARGIN_S = 10.0  # beyond the stop limit: pools end late replicas themselves before
RESTART_EVERY_S = 2.0  # a pool that ends as soon as it has started is not started again at once


@dataclass(frozen=True)
class Surroundings:
    """The parts that all pools of a node share."""

    config: Settings
    node: str
    owner: str  # of the node's name, with its token
    host: Host
    place: Place | None


class Pools:
    """All pools of one node."""

    def __init__(
        self, shared: Surroundings, registry: Registry, slots: Slots, wake: Callable[[str], None]
    ) -> None:
        """`wake` makes the node compare again; it is called in other threads."""
        self._shared, self._registry, self._slots, self._wake = shared, registry, slots, wake
        self._running: dict[str, PoolProcess] = {}
        self._leaving: list[PoolProcess] = []
        self._wanted: set[str] = set()  # names of pools
        self.prepared = PreparedModels(shared.config, registry, shared.node, lambda: wake("unpacked"))
        self._devices_given = 0

    def retire_others(self, wanted: Mapping[str, ModelSpec]) -> None:
        """Ends the pools of versions that are not registered any more. Raises redis.RedisError."""
        self._leaving = [pool for pool in self._leaving if not pool.has_ended]
        self._wanted = {pool_name(spec, self._shared.node) for spec in wanted.values()}
        for key in self._running.keys() - wanted.keys():
            self._retire(key)
        self.prepared.keep(wanted.keys())

    def adjust(self, wanted: Mapping[str, ModelSpec], sizes: Mapping[str, int], resting: set[str]) -> None:
        """Starts, resizes and replaces pools; `sizes`: how many replicas of each version run here.

        Versions that rest have no pool. Raises redis.RedisError.
        """
        replicas = sum(sizes.values())
        for key, spec in wanted.items():
            if key in resting and key in self._running:
                self._retire(key)
            else:
                self._ensure(spec, sizes[key], replicas)
        self.prepared.tidy(wanted, [pool.spec for pool in (*self._running.values(), *self._leaving)])

    def have_ended(self, name: str) -> bool:
        """Whether a pool of this node has ended, and no other one will read its scoreboards."""
        running = {pool.spec.name for pool in (*self._running.values(), *self._leaving)}
        return name.endswith(f"@{self._shared.node}") and name not in self._wanted | running

    def end(self, stop_limit_s: float) -> None:
        """Drains all pools, and kills those that have not ended in time."""
        pools = [*self._running.values(), *self._leaving]
        self.prepared.stop()
        for pool in pools:
            pool.drain()
        timeout_s = stop_limit_s + STOP_MARGIN_S
        deadline = time.monotonic() + timeout_s
        for pool in pools:
            if not pool.wait(max(0.1, deadline - time.monotonic())):
                log.error("pool %s has not ended within %g s and is killed", pool.spec.name, timeout_s)
                pool.kill()

    def _ensure(self, spec: ModelSpec, size: int, replicas: int) -> None:
        pool = self._running.get(spec.key)
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
            del self._running[spec.key]
        if not any(leaving.spec.model.key == spec.key for leaving in self._leaving):
            self._start(spec, size, replicas)

    def _start(self, spec: ModelSpec, size: int, replicas: int) -> None:
        """Starts a pool if this host has replicas of the version, once the version is prepared."""
        if (size or spec.has_dependencies) and (prepared := self.prepared.prepare(spec, size)) and size:
            self.prepared.use(spec)
            pool_spec = self._pool_spec(spec, prepared, replicas)
            self._devices_given += size
            self._running[spec.key] = PoolProcess(pool_spec, size, on_end=lambda: self._wake("ended"))

    def _retire(self, key: str) -> None:
        pool = self._running.pop(key)
        pool.drain()
        self._leaving.append(pool)
        self._slots.release(pool.spec.model)

    def _pool_spec(self, spec: ModelSpec, prepared: Prepared, replicas: int) -> PoolSpec:
        config, place = self._shared.config, self._shared.place
        return PoolSpec(
            model=spec,
            node=self._shared.node,
            owner=self._shared.owner,
            unpacked=str(prepared.unpacked),
            model_dir=str(prepared.model_dir),
            redis_url=config.redis_url,
            run_dir=str(config.state_dir / "run"),
            log_file=str(config.log_dir / logs.MODEL_LOG),
            log_on_console=config.model_log_on_console,
            gpus=[device.id for device in self._shared.host.devices],
            first_device=self._devices_given,
            device_kind=self._shared.host.device_kind,
            threads=devices.threads_per_replica(replicas),
            pinned_among=replicas if config.cpu_launcher_enable else 0,
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
            payload_dir=str(place.directory) if place else "",
            payload_threshold=config.payload_threshold,
            job_payload_dir=str(place.jobs.directory) if place and place.jobs else "",
            job_url_hosts=config.job_url_hosts,
            max_fetched_size=config.max_fetched_size,
            hidden_variables=config.blacklist_env_vars,
            sequence_headers=config.sequence_headers,
        )
