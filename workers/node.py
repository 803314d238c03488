"""The node: makes the registry come true on this host. Started as `python -m workers.node` or `marq node`.

It keeps no state of its own: it compares the registry with what runs here, leases replica slots, and starts,
grows, shrinks and stops pools. The management stream wakes it; it looks every second anyway.
"""

import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from archive.reader import extract
from marq import connection, gpus, keys, settings
from marq.process import die_with_parent
from marq.registry import HEARTBEAT_S, ModelSpec, Registry
from workers import devices
from workers.leases import Leases
from workers.pool_process import PoolProcess
from workers.specs import PoolSpec

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 30.0
RESTART_DELAY_S = 1.0


class Node:
    """All pools of one host."""

    def __init__(self, config: settings.Settings, name: str) -> None:
        self._config, self._name = config, name
        self._redis = connection.client(config.redis_url)
        self._registry = Registry(self._redis)
        self._leases = Leases(self._redis, name)
        self._gpus = gpus.visible(config.number_of_gpu)
        self._pools: dict[str, PoolProcess] = {}
        self._leaving: list[PoolProcess] = []
        self._unpacked: dict[str, Future[Path]] = {}
        self._unpacker = ThreadPoolExecutor(1, thread_name_prefix="unpack")
        self._seen = "$"
        self._devices_given = 0
        self._stopping = False

    def run(self) -> None:
        """Reconciles until told to stop, then drains all pools."""
        while not self._stopping:
            try:
                self.reconcile()
                self._sleep()
            except redis.RedisError as error:
                log.warning("Redis does not answer: %s", error)
                time.sleep(HEARTBEAT_S)
        self._stop()

    def reconcile(self) -> None:
        """One comparison of the registry with what runs here. Raises redis.RedisError."""
        models, nodes = self._registry.models(), self._leases.heartbeat()
        wanted = {spec.key: spec for spec in models}
        for key in self._pools.keys() - wanted.keys():
            self._retire(key)
        for key in self._unpacked.keys() - wanted.keys():
            del self._unpacked[key]
        sizes = {key: self._leases.hold(spec, nodes) for key, spec in wanted.items()}
        for key, spec in wanted.items():
            self._leases.release(spec, keep=spec.min_workers)
            self._ensure(spec, sizes[key], sum(sizes.values()))
        self._leaving = [pool for pool in self._leaving if not pool.has_ended]

    def _ensure(self, spec: ModelSpec, size: int, replicas: int) -> None:
        pool = self._pools.get(spec.key)
        if pool and _sizeless(pool.spec.model) != _sizeless(spec):
            self._retire(spec.key)
            return  # the new pool starts when the old one is gone
        if pool and pool.has_ended:
            log.error("pool %s has ended; starting it again", pool.spec.name)
            del self._pools[spec.key]
            return
        if pool:
            report = self._registry.reports(spec).get(pool.spec.name)
            pool.resize(size, report)
            pool.tell_ready(size, report)
        elif size and not any(leaving.spec.model.key == spec.key for leaving in self._leaving):
            self._start(spec, size, replicas)

    def _start(self, spec: ModelSpec, size: int, replicas: int) -> None:
        unpacking = self._unpacked.get(spec.key)
        if unpacking is None:
            target = self._config.unpacked_dir
            self._unpacked[spec.key] = self._unpacker.submit(extract, Path(spec.archive), target)
            self._unpacked[spec.key].add_done_callback(lambda _: self._wake())
        elif unpacking.done():
            del self._unpacked[spec.key]
            if error := unpacking.exception():
                self._report_failure(spec, f"the archive cannot be unpacked: {error}")
            else:
                pool = self._pool_spec(spec, unpacking.result(), replicas)
                self._pools[spec.key] = PoolProcess(pool, size)

    def _pool_spec(self, spec: ModelSpec, model_dir: Path, replicas: int) -> PoolSpec:
        config, first = self._config, self._devices_given
        self._devices_given += spec.min_workers
        return PoolSpec(
            model=spec,
            node=self._name,
            model_dir=str(model_dir),
            redis_url=config.redis_url,
            run_dir=str(config.state_dir / "run"),
            log_file=str(config.log_dir / "model_log.log"),
            gpus=self._gpus,
            first_device=first,
            threads=devices.threads_per_replica(replicas),
            max_response_size=config.max_response_size,
            job_result_ttl_ms=config.job_result_ttl_s * 1000,
            decode_input=config.decode_input_request,
            limit_max_image_pixels=config.limit_max_image_pixels,
        )

    def _report_failure(self, spec: ModelSpec, reason: str) -> None:
        log.error("%s: %s", spec.key, reason)
        report: dict[str, Any] = {
            "node": self._name, "wanted": 0, "failures": 1, "reason": reason, "replicas": [],
        }  # fmt: skip
        self._registry.report(spec, f"{spec.name}-{spec.version}@{self._name}", report)
        time.sleep(RESTART_DELAY_S)

    def _retire(self, key: str) -> None:
        pool = self._pools.pop(key)
        pool.drain()
        self._leaving.append(pool)
        self._leases.release(pool.spec.model)

    def _sleep(self) -> None:
        """Until something changes in the registry, at most a heartbeat."""
        found = self._redis.xread({keys.MANAGEMENT: self._seen}, block=int(HEARTBEAT_S * 1000))
        if found:
            self._seen = found[0][1][-1][0]

    def _wake(self) -> None:
        self._redis.xadd(keys.MANAGEMENT, {"action": "unpacked", "node": self._name}, maxlen=1000)

    def stop_soon(self, *_: Any) -> None:
        """A signal handler: ends `run` after the current comparison."""
        self._stopping = True

    def _stop(self) -> None:
        pools = [*self._pools.values(), *self._leaving]
        for pool in pools:
            pool.drain()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for pool in pools:
            if not pool.wait(max(0.1, deadline - time.monotonic())):
                log.error("pool %s does not end; killing it", pool.spec.name)
                pool.kill()
        try:
            for spec in self._registry.models():
                self._leases.release(spec)
            self._leases.leave()
        except redis.RedisError as error:
            log.warning("the leases are left to run out: %s", error)


def _sizeless(spec: ModelSpec) -> ModelSpec:
    """The settings whose change needs new replicas."""
    return replace(spec, min_workers=0, max_workers=0, job_queue_size=0, loaded_at_startup=False)


def main() -> None:
    supervised = die_with_parent()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s [%(levelname)s] node: %(message)s"
    )
    config = settings.load()
    node = Node(config, os.environ.get("MARQ_NODE") or socket.gethostname())
    signal.signal(signal.SIGTERM, node.stop_soon)
    if not supervised:
        signal.signal(signal.SIGINT, node.stop_soon)
    node.run()


if __name__ == "__main__":
    main()
