"""The pool: a Celery worker whose slots are replica processes of one model version.

Celery starts it, answers `inspect` and `control` for it, and shuts it down. The pool runs the number of
replicas that its node sets, replaces those that end, requeues their entries, and reports their state.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from celery.app.trace import ExceptionInfo
from celery.concurrency.base import BasePool

from marq import logs
from marq.connections import clients
from marq.host.processes import die_with_parent
from marq.registry.models import HEARTBEAT_S, Registry
from marq.registry.notices import cannot_load, no_gpu
from workers.launch import PoolSpec
from workers.pool import (
    patience,
    remote_commands,  # noqa: F401 - Celery finds the commands once imported
)
from workers.pool.handler_metrics import HandlerMetrics
from workers.pool.pool_name import PoolName
from workers.pool.recovery import Recovery
from workers.pool.replicas import Replicas
from workers.pool.steps import Steps

log = logging.getLogger(__name__)

TICK_S = 0.05
RECOVERY_EVERY_S = 2.0
PATIENCE_S = 10.0  # of a pool that ends, with a Redis that fails
NO_TASKS = "pools run no Celery tasks: submit requests through marq.Client or HTTP"


class ReplicaPool(BasePool):  # type: ignore[misc]
    """Keeps `limit` replicas running. All replicas are started and watched by one thread."""

    limit: int

    def on_start(self) -> None:
        die_with_parent()
        patience.install()
        self._spec = PoolSpec.from_environment()
        self._registry = Registry(clients.client(self._spec.redis_url))
        self._name = PoolName(self._registry.redis, self._spec)
        self._recovery = Recovery(self._spec, self._registry)
        self._metrics = HandlerMetrics(self._spec)
        if self._spec.model.device_type == "gpu" and not self._spec.gpus:
            log.warning("%s", no_gpu(self._spec.model))
        model_log = logs.model_logger(Path(self._spec.log_file), self._spec.log_on_console)
        self._replicas = Replicas(self._spec, model_log, self._metrics, self._recovery)
        self._reported = self._recovered = 0.0
        self._last_report: tuple[object, ...] = ()
        self._steps = Steps(self._spec.name)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="pool-watcher", daemon=True)
        self._watcher.start()

    def on_stop(self) -> None:
        """Drains all replicas and waits for them: they finish their batches; waiting requests stay queued.

        While Redis fails, it waits for PATIENCE_S at most.
        """
        self._stopping.set()
        self._watcher.join()

    def on_terminate(self) -> None:
        self._replicas.kill()
        self.on_stop()

    def grow(self, n: int) -> None:
        """Called by `celery control pool_grow`."""
        self.limit += n
        self._replicas.failures.end_pause()

    def shrink(self, n: int) -> None:
        """Called by `celery control pool_shrink`."""
        self.limit = max(0, self.limit - n)

    def replace(self, generation: int) -> None:
        """Called by `celery control replace_replicas`: each replica drains when its successor is ready."""
        self._replicas.generation = generation
        self._replicas.failures.forget()
        self._replicas.failures.end_pause()

    def on_apply(
        self, *_args: object, accept_callback: Callable[..., None], error_callback: Callable[..., None],
        **_options: object,
    ) -> None:  # fmt: skip
        """Takes a Celery task from the queue and lets it fail: an exception from here would end the pool."""
        accept_callback(os.getpid(), time.monotonic())
        try:
            raise NotImplementedError(NO_TASKS)
        except NotImplementedError:
            error_callback(ExceptionInfo())

    def _get_info(self) -> dict[str, object]:
        """The pool's part of `celery inspect stats`."""
        spec = self._spec
        return {
            "implementation": f"{type(self).__module__}:{type(self).__name__}",
            "max-concurrency": self.limit,
            "model": spec.model.name,
            "version": spec.model.version,
            "processes": [replica.pid for replica in self._replicas],
            "replicas": [asdict(replica.report()) for replica in self._replicas],
        }

    def _watch(self) -> None:
        while not self._stopping.wait(TICK_S):
            self._steps.run(self._tick)
        while self._replicas:
            if self._steps.redis_fails_for() > PATIENCE_S:
                self._abandon()
                return
            self._steps.run(self._drain)
            time.sleep(TICK_S)
        self._steps.run(lambda: self._metrics.flush(self._registry.redis))
        self._steps.run(self._withdraw)

    def _abandon(self) -> None:
        """Ends without Redis: no result could be published. The next pool of this name puts the rows back."""
        log.error(
            "pool %s does not wait for its running batches: Redis has failed for more than %g s (%s). "
            "Their requests run again after the next start",
            self._spec.name,
            PATIENCE_S,
            self._steps.redis_failure,
        )
        self._replicas.abandon()

    def _tick(self) -> None:
        if not self._name.is_held():
            self._drain()
            return
        self._recover()
        self._replicas.bury_ended()
        self._replicas.look_after()
        self._replicas.resize(self.limit)
        self._refuse_if_hopeless()
        self._report()
        self._metrics.flush_if_due(self._registry.redis)

    def _drain(self) -> None:
        """Has all replicas end, and looks after those that have not."""
        self._replicas.drain()
        try:
            if self._name.is_held():
                self._report()  # a pool that is silent for too long is lost: others run its requests
            self._replicas.bury_ended()
        finally:
            self._replicas.look_after()

    def _withdraw(self) -> None:
        if self._name.is_held():
            self._registry.withdraw(self._spec.model, self._spec.name)
            self._name.release()

    def _recover(self) -> None:
        if time.monotonic() - self._recovered >= RECOVERY_EVERY_S:
            self._recovery.requeue_lost({replica.consumer for replica in self._replicas})
            self._recovered = time.monotonic()
            if not self._replicas:
                self._recovery.forget_lost()

    def _refuse_if_hopeless(self) -> None:
        """Refuses waiting requests when the model has been failing for longer than it may."""
        model, failures = self._spec.model, self._replicas.failures
        if not failures.last_for(model.max_retry_timeout_s):
            return
        if not any(replica.is_ready for replica in self._registry.replicas(model)):
            self._recovery.refuse_waiting(cannot_load(model, failures.reason))

    def _report(self) -> None:
        """Reports to the registry: at once when the state has changed, else once a heartbeat."""
        now, wanted = time.monotonic(), 0 if self._stopping.is_set() else self.limit
        states = (wanted, *self._replicas.states())
        if states == self._last_report and now - self._reported < HEARTBEAT_S:
            return
        self._registry.report(self._spec.model, self._spec.name, self._replicas.report(wanted))
        self._last_report, self._reported = states, now
