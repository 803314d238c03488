"""The supervisor once everything is set up: starts, watches and stops a server's processes.

`marq start` becomes this program (`exec`, same process): it needs the standard library alone, a third of the
memory that setting up took. Ends with exit code 0 after SIGINT or SIGTERM.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

from marq import logs
from marq.host import stop_limit
from marq.host.processes import FORCE_AFTER_S, end_with_parent, say

log = logging.getLogger("marq.host.watcher")  # not "__main__": it is run, too

PLAN_VARIABLE = "MARQ_PLAN"
# SageMaker's toolkit looks for a process with this word, the class of TorchServe's server. Python carries
# it as an option of its own (-X) without a meaning.
MODEL_SERVER = "org.pytorch.serve.ModelServer"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TICK_S = 0.1
RESTART_DELAY_S = 1.0
RETRY_S = 10.0  # after a start that the system has refused
STOPPING = (
    "Stopping: requests in flight have {0:g} s to finish, then running batches {0:g} s; jobs stay queued. "
    "Ctrl-C again forces it.\n"
)
FORCED = b"Forced: running requests are ended, and run again after the next start.\n"


@dataclass
class Program:
    """One process to keep running.

    `drains`: it may take the stop limit of the server and `stop_timeout_s` more. `pid` if it runs already;
    `log`: the file that takes its output; `foreign`: not marq's own program, so Ctrl-C must be kept from it,
    and it must be notified of the end of its parent.
    """

    name: str
    command: list[str]
    stop_timeout_s: float
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)
    log: str | None = None
    foreign: bool = False
    pid: int | None = None
    drains: bool = False
    stop_signal: int = signal.SIGTERM


@dataclass
class Plan:
    """The processes to run: stages are started together, and stopped one after the other, in their order."""

    stages: list[list[Program]]
    server_file: str  # removed at the end
    log_dir: str

    def execute(self) -> NoReturn:
        """Turns this process into the watcher. Signals that come meanwhile are not lost."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        sys.stdout.flush()
        environment = {**os.environ, PLAN_VARIABLE: json.dumps(asdict(self))}
        mark = ["-X", MODEL_SERVER] if MODEL_SERVER in sys._xoptions else []
        command = [sys.executable, "-P", *mark, "-m", "marq.host.watcher"]
        os.execve(sys.executable, command, environment)  # noqa: S606 - no shell


def read_plan() -> Plan:
    data = json.loads(os.environ.pop(PLAN_VARIABLE))
    stages = [[Program(**program) for program in stage] for stage in data["stages"]]
    return Plan(stages, data["server_file"], data["log_dir"])


class Child:
    """The process of one program; restarted when it ends by itself."""

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self._program = program
        self._started = time.monotonic()
        self._ended: int | None = None
        if program.pid:
            self.pid = program.pid
        else:
            self._start()

    def keep_alive(self) -> None:
        if self._has_ended() and time.monotonic() - self._started > RESTART_DELAY_S:
            log.error(
                "the %s (pid %d) ended with exit code %d; restarting it", self.name, self.pid, self._ended
            )
            try:
                self._start()
            except OSError as error:  # the host cannot start a process now, or open its log
                log.error("the %s cannot be started, next attempt in %g s: %s", self.name, RETRY_S, error)
                self._started = time.monotonic() + RETRY_S

    def stop(self) -> None:
        if not self._has_ended():
            os.kill(self.pid, self._program.stop_signal)

    def wait(self, limit_s: float = 0, is_forced: Callable[[], bool] = bool) -> None:
        """Waits for the end, and enforces it when the time-out has passed, or as soon as it `is_forced`.

        `limit_s`: the stop limit, for a program that drains. A foreign program is not forced: a Redis server
        that is killed loses its last second.
        """
        timeout_s = self._program.stop_timeout_s + (limit_s if self._program.drains else 0)
        deadline = time.monotonic() + timeout_s
        while not self._has_ended() and time.monotonic() < deadline:
            if is_forced() and not self._program.foreign:
                break
            time.sleep(TICK_S / 10)
        if not self._has_ended():
            reason = f"did not end within {timeout_s:g} s"
            if time.monotonic() < deadline:
                reason = "has not ended yet, and the stop is forced"
            log.error("the %s %s; killing it", self.name, reason)
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self._ended = os.waitstatus_to_exitcode(status)

    def close_sockets(self) -> None:
        """Closes what this process holds for it: with the program's own ones, clients are refused at once."""
        for descriptor in self._program.descriptors:
            with contextlib.suppress(OSError):  # another program had the same
                os.close(descriptor)

    def _start(self) -> None:
        program = self._program
        with contextlib.ExitStack() as stack:
            log_file = stack.enter_context(Path(program.log).open("ab")) if program.log else None
            process = subprocess.Popen(
                program.command,
                env={**os.environ, **program.environment},
                pass_fds=program.descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=program.foreign,
                preexec_fn=end_with_parent if program.foreign else _ignore_interrupts,
            )
        self.pid, self._ended, self._started = process.pid, None, time.monotonic()
        process.returncode = 0  # it is waited for here, not there

    def _has_ended(self) -> bool:
        if self._ended is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._ended = os.waitstatus_to_exitcode(status) if pid else None
        return self._ended is not None


def _ignore_interrupts() -> None:
    """Ctrl-C, and the end of a terminal, reach all its processes, also those that import their modules."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Watcher:
    """Runs a plan until a signal stops it; a second Ctrl-C kills what has not ended."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._limit_s = 0.0  # read when the stop begins
        self._stopping_since: float | None = None
        self._forced = False

    def run(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
                signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        stages = [[Child(program) for program in stage] for stage in self._plan.stages]
        while self._stopping_since is None:
            time.sleep(TICK_S)
            for stage in stages:
                for child in stage:
                    child.keep_alive()
        self._stop(stages)
        try:
            Path(self._plan.server_file).unlink(missing_ok=True)
        except OSError as error:  # a later start replaces it
            log.warning("%s cannot be removed: %s", self._plan.server_file, error)

    def _stop(self, stages: list[list[Child]]) -> None:
        for stage in stages:
            for child in stage:
                child.close_sockets()
            for child in stage:
                child.stop()
            for child in stage:
                child.wait(self._limit_s, lambda: self._forced)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now  # first: another signal may interrupt the rest
            self._limit_s = stop_limit.read(Path(self._plan.server_file).parent)
            say(STOPPING.format(self._limit_s).encode())
        elif number == signal.SIGINT and not self._forced and now - self._stopping_since > FORCE_AFTER_S:
            self._forced = True
            say(FORCED)


def main() -> None:
    plan = read_plan()
    logs.configure("supervisor", Path(plan.log_dir))
    Watcher(plan).run()
    for number in SIGNALS:  # one that comes now would be the exit code
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
