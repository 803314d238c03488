"""The pool: a Celery worker whose slots are replica processes of one model version.

Celery starts it, answers `inspect` and `control` for it, and shuts it down. The pool runs the number of
replicas that its node sets, replaces those that end, requeues their entries, and reports their state.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import redis
from celery.app.trace import ExceptionInfo
from celery.concurrency.base import BasePool

from archive.reader import complete
from marq import logs
from marq.connections import clients
from marq.host.processes import die_with_parent
from marq.registry import spec
from marq.registry.models import HEARTBEAT_S, Registry
from marq.registry.notices import no_gpu
from marq.registry.reports import PoolReport
from workers.launch import PoolSpec
from workers.pool import leftovers, remote_commands  # noqa: F401 - Celery finds the commands once imported
from workers.pool.backoff import Failures
from workers.pool.handler_metrics import HandlerMetrics
from workers.pool.pool_name import PoolName
from workers.pool.recovery import Recovery
from workers.pool.replica_process import LAST_WORDS_S, Ending, ReplicaProcess
from workers.pool.room import room

log = logging.getLogger(__name__)

TICK_S = 0.05
RECOVERY_EVERY_S = 2.0
MOST_NAMED = 10  # files in a log line
NO_TASKS = "pools run no Celery tasks: submit requests through marq.Client or HTTP"
ONCE = "not started again, because maxRetryTimeoutInSec is 0"


class ReplicaPool(BasePool):  # type: ignore[misc]
    """Keeps `limit` replicas running. All replicas are started and watched by one thread."""

    limit: int

    def on_start(self) -> None:
        die_with_parent()
        self._spec = PoolSpec.from_environment()
        self._registry = Registry(clients.client(self._spec.redis_url))
        self._name = PoolName(self._registry.redis, self._spec)
        self._recovery = Recovery(self._spec, self._registry)
        if self._spec.model.device_type == "gpu" and not self._spec.gpus:
            log.warning("%s", no_gpu(self._spec.model))
        self._model_log = logs.model_logger(Path(self._spec.log_file), self._spec.log_on_console)
        self._metrics = HandlerMetrics(self._spec)
        self._replicas: list[ReplicaProcess] = []
        self._generation = self._spec.model.generation
        self._failures = Failures(repeats=self._spec.model.max_retry_timeout_s > 0)
        self._has_loaded = False  # whether a replica has ever been ready
        self._short = ""  # why fewer replicas run than should
        self._oversize = ""  # why each replica is replaced after its first batch, if it is too large
        self._reported = self._recovered = 0.0
        self._last_report: list[object] = []
        self._shown = ""  # the failure that was logged last, until a step succeeds
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="pool-watcher", daemon=True)
        self._watcher.start()

    def on_stop(self) -> None:
        """Drains all replicas and waits for them: they finish their batches; waiting requests stay queued."""
        self._stopping.set()
        self._watcher.join()

    def on_terminate(self) -> None:
        for replica in self._replicas:
            replica.kill()
        self.on_stop()

    def grow(self, n: int) -> None:
        """Called by `celery control pool_grow`."""
        self.limit += n
        self._failures.end_pause()

    def shrink(self, n: int) -> None:
        """Called by `celery control pool_shrink`."""
        self.limit = max(0, self.limit - n)

    def replace(self, generation: int) -> None:
        """Called by `celery control replace_replicas`: each replica drains when its successor is ready."""
        self._generation = generation
        self._failures.forget()
        self._failures.end_pause()

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
            self._guarded(self._tick)
        while self._replicas:
            self._guarded(self._drain)
            time.sleep(TICK_S)
        self._guarded(lambda: self._metrics.flush(self._registry.redis))
        self._guarded(self._withdraw)

    def _guarded(self, step: Callable[[], object]) -> None:
        """A pool outlives Redis, and whatever else fails: a step that fails runs again at the next tick.

        A failure that repeats is logged once.
        """
        try:
            step()
        except Exception as error:
            expected = isinstance(error, redis.RedisError | OSError)  # the host cannot start a process now
            if (shown := f"{type(error).__name__}: {error}") != self._shown:
                trace = None if expected else error
                log.warning(
                    "pool %s cannot do its work now and tries again: %s",
                    self._spec.name,
                    error,
                    exc_info=trace,
                )
            self._shown = shown
            time.sleep(TICK_S * 10)
        else:
            self._shown = ""

    def _tick(self) -> None:
        if not self._name.is_held():
            self._drain()
            return
        self._recover()
        self._bury_ended()
        self._look_after_replicas()
        self._resize()
        self._refuse_if_hopeless()
        self._report()
        self._metrics.flush_if_due(self._registry.redis)

    def _drain(self) -> None:
        """Has all replicas end, and looks after those that have not."""
        for replica in self._replicas:
            replica.drain()
        try:
            if self._name.is_held():
                self._report()  # a pool that is silent for too long is lost: others run its requests
            self._bury_ended()
        finally:
            self._look_after_replicas()

    def _withdraw(self) -> None:
        if self._name.is_held():
            self._registry.withdraw(self._spec.model, self._spec.name)
            self._name.release()

    def _recover(self) -> None:
        if time.monotonic() - self._recovered >= RECOVERY_EVERY_S:
            self._recovery.requeue_lost({replica.consumer for replica in self._replicas})
            self._recovered = time.monotonic()

    def _bury_ended(self) -> None:
        """Requeues the entries of all replicas that have ended; within a second, however many there are."""
        ended = [replica for replica in self._replicas if replica.exit_code is not None]
        deadline = time.monotonic() + LAST_WORDS_S
        for replica in ended:
            ending = replica.ending(deadline)
            self._recovery.requeue(replica.consumer, replica.board.running, replica.spec.device, ending)
            self._replicas.remove(replica)
            leftovers.end_of_replica(replica.mark)
            if not replica.stopping:
                self._note_end(replica, ending)

    def _note_end(self, replica: ReplicaProcess, ending: Ending) -> None:
        """Replaces a replica: at once if a request may have crashed it, after a pause if the model has."""
        self._metrics.restarted()
        if not replica.failed:
            log.error("%s; starting another", ending.line)
            return
        shown, reason = "\n".join(ending.details), ending.report
        line = f"{ending.line} before it was ready"
        if replica.came_up:  # clients get the last line; otherwise it is that of an error
            line = f"{ending.line} soon after it was ready"
            reason = "\n".join((*ending.details, line))
        pause = self._failures.add(reason)
        then = f"starting another in {pause} s" if self._failures.repeats else ONCE
        log.error("%s; %s:\n%s", line, then, shown)

    def _look_after_replicas(self) -> None:
        for replica in self._replicas:
            if late := replica.overdue():
                log.error("killing replica %d (pid %d): %s", replica.slot, replica.pid, late)
                replica.kill(late)
            elif lingering := replica.lingering():
                log.error("killing replica %d (pid %d): %s", replica.slot, replica.pid, lingering)
                replica.kill()
            elif replica.state == "ready" and not replica.was_ready:
                self._note_ready(replica)
            if replica.has_lasted and not replica.counted and replica.generation == self._generation:
                replica.counted = True
                self._failures.forget()

    def _note_ready(self, replica: ReplicaProcess) -> None:
        replica.note_ready()
        self._has_loaded = True
        self._metrics.loaded(replica.slot, time.time() - replica.started)
        if not replica.is_oversize:
            self._oversize = ""
        elif not self._oversize:
            takes_mb, limit_mb = replica.memory >> 20, self._spec.model.max_replica_memory_mb
            self._oversize = (
                f"a fresh replica takes {takes_mb} MB, maxReplicaMemoryMB is {limit_mb}: "
                "each is replaced after its first batch"
            )
            log.error("%s: %s", self._spec.name, self._oversize)

    def _resize(self) -> None:
        """Starts and drains replicas until `limit` run; one more while outdated ones are replaced.

        An outdated replica drains when a new one is ready.
        """
        running = [replica for replica in self._replicas if not replica.stopping]
        old = [replica for replica in running if self._is_outdated(replica)]
        new = [replica for replica in running if replica not in old]
        successors = sum(replica.was_ready for replica in new)
        for replica in (*new[self.limit :], *old[max(0, self.limit - successors) :]):
            replica.drain()
        missing = min(self.limit - len(new), self.limit + bool(old) - len(running))
        self._short = ""
        if missing > 0 and not self._failures.pausing:
            for slot, _ in zip(self._free_slots(), range(min(missing, self._room(bool(old)))), strict=False):
                self._replicas.append(self._start_replica(slot))

    def _room(self, replaces: bool) -> int:
        """How many replicas may start now; one that replaces another, and the first one, always may."""
        ready = [replica.private_memory for replica in self._replicas if replica.was_ready]
        loading = len(self._replicas) - len(ready)
        free = room(loading, max(ready, default=0))
        if free or loading:
            return free
        if ready and not replaces:
            self._short = f"this host has no memory for more replicas than {len(ready)} of {self.limit}"
            return 0
        return 1

    def _refuse_if_hopeless(self) -> None:
        """Refuses waiting requests when the model has been failing for longer than it may."""
        model = self._spec.model
        if not self._failures.last_for(model.max_retry_timeout_s):
            return
        if not any(replica.is_ready for replica in self._registry.replicas(model)):
            self._recovery.refuse_waiting(spec.cannot_load(model, self._failures.reason))

    def _start_replica(self, slot: int) -> ReplicaProcess:
        if not self._replicas and (
            restored := complete(Path(self._spec.unpacked), Path(self._spec.model_dir))
        ):
            log.info("restored files that the handler has removed: %s", ", ".join(restored[:MOST_NAMED]))
        return ReplicaProcess(
            self._spec, slot, self._model_log, self._metrics.accept, generation=self._generation
        )

    def _is_outdated(self, replica: ReplicaProcess) -> bool:
        return replica.generation != self._generation or (replica.was_ready and replica.is_worn)

    def _free_slots(self) -> Iterator[int]:
        taken = {replica.slot for replica in self._replicas}
        return (slot for slot in range(self.limit + len(taken)) if slot not in taken)

    def _report(self) -> None:
        """Reports to the registry: at once when the state has changed, else once a heartbeat."""
        now = time.monotonic()
        failures, reason = self._failures, self._failures.reason or self._oversize or self._short
        wanted = 0 if self._stopping.is_set() else self.limit
        states: list[object] = [wanted, self._generation, failures.count, reason]
        states += [(replica.pid, replica.state) for replica in self._replicas]
        if states == self._last_report and now - self._reported < HEARTBEAT_S:
            return
        report = PoolReport(
            self._spec.node,
            wanted=wanted,
            generation=self._generation,
            failures=failures.count,
            failing_since=failures.since,
            reason=reason,
            cannot_load=failures.is_repeated and not self._has_loaded,
            replicas=tuple(replica.report() for replica in self._replicas),
        )
        self._registry.report(self._spec.model, self._spec.name, report)
        self._last_report, self._reported = states, now
