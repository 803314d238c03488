"""The replicas of a pool: starts, drains, kills and replaces them, and knows why fewer run than should."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from archive.reader import complete
from marq.registry.notices import own_error
from marq.registry.reports import PoolReport
from workers.launch import PoolSpec
from workers.pool import leftovers
from workers.pool.backoff import Failures
from workers.pool.handler_metrics import HandlerMetrics
from workers.pool.recovery import Recovery
from workers.pool.replica_output import LAST_WORDS_S
from workers.pool.replica_process import Ending, ReplicaProcess
from workers.pool.room import room

log = logging.getLogger(__name__)

MOST_NAMED = 10  # files in a log line
ONCE = "not started again, because maxRetryTimeoutInSec is 0"


class Replicas:
    """All replicas that have not been buried; those that are ending are among them.

    `generation`: that of the replicas that start from now on; replicas of another one are replaced.
    """

    def __init__(
        self, spec: PoolSpec, model_log: logging.Logger, metrics: HandlerMetrics, recovery: Recovery
    ) -> None:
        self._spec, self._model_log, self._metrics, self._recovery = spec, model_log, metrics, recovery
        self._place = spec.place
        self._replicas: list[ReplicaProcess] = []
        self.generation = spec.model.generation
        self.failures = Failures(repeats=spec.model.max_retry_timeout_s > 0)
        self._has_loaded = False  # whether a replica has ever been ready
        self._short = ""  # why fewer replicas run than should
        self._oversize = ""  # why each replica is replaced after its first batch, if it is too large

    def __iter__(self) -> Iterator[ReplicaProcess]:
        return iter(self._replicas)

    def __bool__(self) -> bool:
        return bool(self._replicas)

    def bury_ended(self) -> None:
        """Requeues the entries of all replicas that have ended; within a second, however many there are."""
        ended = [replica for replica in self._replicas if replica.exit_code is not None]
        deadline = time.monotonic() + LAST_WORDS_S
        for replica in ended:
            ending = replica.ending(deadline)
            self._recovery.requeue(replica.consumer, replica.board.running, replica.spec.device, ending)
            self._replicas.remove(replica)
            replica.board.remove()
            leftovers.end_of_replica(replica.mark)
            if not replica.stopping:
                self._note_end(replica, ending)

    def _note_end(self, replica: ReplicaProcess, ending: Ending) -> None:
        """Replaces a replica: at once if a request may have crashed it, after a pause if the model has."""
        self._metrics.restarted()
        is_outdated = replica.generation != self.generation  # its successors may not fail
        if not replica.failed or is_outdated:
            log.error("%s: %s; starting another", self._spec.name, ending.line)
            return
        reason = ending.report
        line = f"{ending.line} before it was ready"
        if replica.came_up:  # clients get the last line; otherwise it is that of an error
            line = f"{ending.line} soon after it was ready"
            reason = "\n".join((*ending.details, line))
        pause = self.failures.add(reason)
        then = f"starting another in {pause} s" if self.failures.repeats else ONCE
        why = own_error("\n".join(ending.details))  # the model log has all lines
        log.error("%s: %s; %s: %s", self._spec.name, line, then, why)

    def look_after(self) -> None:
        """Kills replicas that take too long; notes which are ready, and which have shown that they work."""
        for replica in self._replicas:
            if not _kill_if_late(replica) and replica.state == "ready" and not replica.was_ready:
                self._note_ready(replica)
            if replica.has_lasted and not replica.counted and replica.generation == self.generation:
                replica.counted = True
                self.failures.forget()

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

    def resize(self, limit: int) -> None:
        """Starts and drains replicas until `limit` run; one more while outdated ones are replaced.

        An outdated replica drains when a new one is ready.
        """
        running = [replica for replica in self._replicas if not replica.stopping]
        old = [replica for replica in running if self._is_outdated(replica)]
        new = [replica for replica in running if replica not in old]
        successors = sum(replica.was_ready for replica in new)
        for replica in (*new[limit:], *old[max(0, limit - successors) :]):
            replica.drain()
        missing = min(limit - len(new), limit + bool(old) - len(running))
        self._short = ""
        if missing > 0 and not self.failures.pausing:
            starts = range(min(missing, self._room(limit, replaces=bool(old))))
            for slot, _ in zip(self._free_slots(limit), starts, strict=False):
                self._replicas.append(self._start(slot))

    def _room(self, limit: int, replaces: bool) -> int:
        """How many replicas may start now; one that replaces another, and the first one, always may."""
        ready = [replica.private_memory for replica in self._replicas if replica.was_ready]
        loading = len(self._replicas) - len(ready)
        free = room(loading, max(ready, default=0))
        if free or loading:
            return free
        if ready and not replaces:
            self._short = f"this host has no memory for more replicas than {len(ready)} of {limit}"
            return 0
        return 1

    def _start(self, slot: int) -> ReplicaProcess:
        if not self._replicas and (
            restored := complete(Path(self._spec.unpacked), Path(self._spec.model_dir))
        ):
            log.info("restored files that the handler has removed: %s", ", ".join(restored[:MOST_NAMED]))
        return ReplicaProcess(
            self._spec, slot, self._model_log, self._metrics.accept, generation=self.generation
        )

    def _is_outdated(self, replica: ReplicaProcess) -> bool:
        return replica.generation != self.generation or (replica.was_ready and replica.is_worn)

    def _free_slots(self, limit: int) -> Iterator[int]:
        taken = {replica.slot for replica in self._replicas}
        return (slot for slot in range(limit + len(taken)) if slot not in taken)

    def drain(self) -> None:
        """Asks all to end after their batches."""
        for replica in self._replicas:
            replica.drain()

    def kill(self) -> None:
        for replica in self._replicas:
            replica.kill()

    def abandon(self) -> None:
        """Kills all. Their requests are not charged an attempt: they are not to blame.

        The scoreboards stay, for those who put the requests back.
        """
        self.kill()
        for replica in self._replicas:
            replica.wait_for_end()
            replica.board.begin([])
            leftovers.end_of_replica(replica.mark)

    @property
    def reason(self) -> str:
        """Why fewer replicas run than should, or why they do not last; empty if all is well."""
        return self.failures.reason or self._oversize or self._short

    def states(self) -> tuple[object, ...]:
        """A change of these must be reported at once."""
        states = [(replica.pid, replica.state) for replica in self._replicas]
        return (self.generation, self.failures.count, self.reason, *states)

    def report(self, wanted: int) -> PoolReport:
        return PoolReport(
            self._spec.node,
            wanted=wanted,
            generation=self.generation,
            failures=self.failures.count,
            failing_since=self.failures.since,
            reason=self.reason,
            cannot_load=self.failures.is_repeated and not self._has_loaded,
            payloads=self._place.identity if self._place else "",
            job_payloads=self._place.jobs.identity if self._place and self._place.jobs else "",
            replicas=tuple(replica.report() for replica in self._replicas),
        )


def _kill_if_late(replica: ReplicaProcess) -> bool:
    """Whether it takes too long. One that has ended does not: it is buried when Redis answers again."""
    if replica.exit_code is not None:
        return False
    late = replica.overdue()
    if not (reason := late or replica.lingering()):
        return False
    log.error("killing replica %d (pid %d): %s", replica.slot, replica.pid, reason)
    replica.kill(late or "")
    return True
