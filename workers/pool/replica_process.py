"""The process of a replica: its pool starts, watches and stops it."""

import logging
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from marq.host.processes import PARENT_VARIABLE, child_environment
from marq.registry.consumers import consumer_name
from marq.registry.reports import ReplicaReport
from workers import devices, scoreboard
from workers.launch import REPLICA_VARIABLE, PoolSpec, ReplicaSpec, rows_at_a_time
from workers.pool import leftovers
from workers.pool.replica_output import AcceptMetric, ReplicaOutput
from workers.pool.shutdown import ShutdownDeadline

log = logging.getLogger(__name__)

ASYNC_GRACE_S = 5.0  # an asynchronous replica cancels late batches itself, unless its event loop is blocked
LASTING_S = 10.0  # a replica that has been ready for this time shows that its model works
RESPONSE_TIMEOUT = "response time-out"


@dataclass(frozen=True)
class Ending:
    """How a replica ended; unknown fields are empty."""

    line: str  # a sentence for logs and clients
    cause: str = ""  # "signal 9", "exit code 3", RESPONSE_TIMEOUT
    printed: tuple[str, ...] = ()  # its last lines
    overdue: str = ""  # the time-out that it was killed for

    @property
    def details(self) -> list[str]:
        return [*self.printed, self.overdue] if self.overdue else list(self.printed)

    @property
    def report(self) -> str:
        """All lines, as `describe` and `status` show them."""
        return "\n".join((self.line, *self.details))


class ReplicaProcess:
    """The operating-system process of one slot."""

    def __init__(
        self,
        pool: PoolSpec,
        slot: int,
        model_log: logging.Logger,
        accept_metric: AcceptMetric = bool,
        generation: int = 0,
    ) -> None:
        self.slot, self.generation = slot, generation
        gpu = devices.device_for(pool.model, slot, pool.gpus, pool.first_device)
        group = devices.group_for(pool.model, slot, pool.gpus)
        if pool.model.parallel_level:
            gpu = group[0] if group else None
        path = scoreboard.path_of(Path(pool.run_dir), pool.name, slot)
        self.board = scoreboard.Scoreboard.create(path, rows_at_a_time(pool.model))
        self.spec = ReplicaSpec(pool, slot, gpu, str(path))
        self.started = time.time()
        self.stopping = False
        self.counted = False  # whether its pool has noted that it has lasted
        self._ready_at = 0.0  # when its pool saw that (monotonic s)
        drain_s = pool.model.sequence_drain_s if pool.model.sequence_batching else 0
        self._shutdown = ShutdownDeadline(self.board, self._patience_s + drain_s)
        self._overdue = ""
        own = {**self.spec.to_environment(), **(devices.visible(group) if group else {})}
        self._process = subprocess.Popen(
            [pool.python, "-P", "-m", "workers.replica"],
            env=_visible(child_environment(self._threads(), own), pool.hidden_variables),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace",
        )  # fmt: skip
        self._pin()
        self.mark = leftovers.mark(self.pid)
        self.consumer = consumer_name(pool.name, slot, self.pid)
        name = f"{pool.name}/{slot} pid {self.pid}"
        self.output = ReplicaOutput(self._process, name, model_log, accept_metric)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def state(self) -> str:
        if self._process.poll() is not None:
            return "stopped"
        return scoreboard.STATE_NAMES[self.board.state]

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    @property
    def was_ready(self) -> bool:
        """Whether its pool has seen it ready."""
        return self._ready_at > 0

    def note_ready(self) -> None:
        self._ready_at = time.monotonic()

    @property
    def came_up(self) -> bool:
        """Whether it was ready, even if it ended before its pool saw that."""
        return self.board.state != scoreboard.LOADING

    @property
    def has_lasted(self) -> bool:
        """Whether it has shown that its model works: by a batch, or by having been ready for a while."""
        return self.board.counts[1] > 0 or (self.was_ready and time.monotonic() - self._ready_at >= LASTING_S)

    @property
    def failed(self) -> bool:
        """Whether the model, not a request, caused its end."""
        return not self.board.running and not self.has_lasted

    def overdue(self) -> str | None:
        """Why the replica must be killed, if a time-out of its model has passed."""
        model = self.spec.pool.model
        if self.board.state == scoreboard.READY and self.board.busy_s > self._patience_s:
            return f"no answer within the response time-out of {model.response_timeout_s} s"
        if self.board.state == scoreboard.LOADING and time.time() - self.started > model.startup_timeout_s:
            return f"not ready within the start-up time-out of {model.startup_timeout_s} s"
        return None

    @property
    def _patience_s(self) -> float:
        model = self.spec.pool.model
        return model.response_timeout_s + (ASYNC_GRACE_S if model.async_communication else 0)

    def lingering(self) -> str | None:
        """Why the replica must be killed, if its shutdown deadline has passed."""
        return self._shutdown.overdue()

    def drain(self) -> None:
        """Asks it, once, to finish its batches and end; kills it while it loads."""
        if self.stopping:
            return
        self.stopping = True
        self._shutdown.ask()
        self._process.send_signal(signal.SIGTERM if self.came_up else signal.SIGKILL)

    def kill(self, overdue: str = "") -> None:
        """`overdue`: the time-out that has passed, if that is why."""
        self._overdue = self._overdue or overdue
        self._process.kill()

    def wait_for_end(self) -> None:
        """Waits for the end of a process that was killed."""
        self._process.wait()

    def ending(self, deadline: float | None = None) -> Ending:
        """How the process ended, with the last lines of its output; call it after the end."""
        self.output.wait(deadline)
        code = self.exit_code or 0
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        line = f"replica {self.slot} (pid {self.pid}) ended with {cause}"
        if self._overdue and self.came_up:
            cause = RESPONSE_TIMEOUT
        return Ending(line, cause, tuple(self.output.tail), self._overdue)

    @property
    def is_worn(self) -> bool:
        """Whether it has reached the maximum of requests or of memory for one replica."""
        most_requests = self.spec.pool.model.max_requests_per_replica
        requests, batches = self.board.counts
        # A fresh replica that is too large serves one batch before it is replaced: else none would serve any.
        return bool((most_requests and requests >= most_requests) or (batches and self.is_oversize))

    @property
    def is_oversize(self) -> bool:
        most_mb = self.spec.pool.model.max_replica_memory_mb
        return bool(most_mb and self.memory > most_mb << 20)

    def report(self) -> ReplicaReport:
        requests, batches = self.board.counts
        return ReplicaReport(
            self.slot, self.pid, self.spec.device, self.state, self.started,
            memory=self.memory, requests=requests, batches=batches,
            fitting=self.board.row_limit, generation=self.generation,
        )  # fmt: skip

    @property
    def memory(self) -> int:
        """In bytes; 0 where it has ended."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    @property
    def private_memory(self) -> int:
        """The part of it, in bytes, that is not shared with other processes, as files in memory are."""
        try:
            memory = psutil.Process(self.pid).memory_info()
            return int(memory.rss - getattr(memory, "shared", 0))
        except psutil.Error:
            return 0

    def _pin(self) -> None:
        """Its threads, which start later, inherit the cores."""
        pool = self.spec.pool
        if not pool.pinned_among or self.spec.gpu is not None or not (nodes := devices.numa_nodes()):
            return
        cores = devices.pinned_cores(pool.first_device + self.slot, pool.pinned_among, nodes)
        try:
            os.sched_setaffinity(self.pid, cores)
        except OSError as error:  # it has ended, or a container forbids it
            log.warning("replica %d (pid %d) cannot be pinned to cores: %s", self.slot, self.pid, error)

    def _threads(self) -> dict[str, str]:
        """An operator's OMP_NUM_THREADS stays."""
        return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(self.spec.pool.threads)}


def _visible(environment: dict[str, str], hidden: str) -> dict[str, str]:
    """All variables but those whose whole name matches the regular expression; never hides marq's own."""
    kept = (REPLICA_VARIABLE, PARENT_VARIABLE)
    return {n: v for n, v in environment.items() if n in kept or not (hidden and re.fullmatch(hidden, n))}
