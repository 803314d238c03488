"""A server's processes: finding, measuring and ending them."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil

MARK = "BENCHMARK_RUN"  # in the environment of every process of a server
STOP_TIMEOUT_S, ORPHAN_TIMEOUT_S = 40.0, 5.0
POLL_S = 0.1
ROLES = {  # by a word of the command line
    "gateway": "gateway", "workers.node": "node", "workers.replica": "replica", "valkey-server": "redis",
    "redis-server": "redis",
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Tree:
    """A started command and all that it starts, directly or not."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self._run = uuid.uuid4().hex
        self.log = directory / "server.log"
        with self.log.open("wb") as log:
            self._leader = subprocess.Popen(
                command,
                env={**environment, MARK: self._run},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours, and stops the server in `stop`
            )

    @property
    def has_ended(self) -> bool:
        return self._leader.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """Those that run now."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._run:
                    found |= {process, *process.children(recursive=True)}
        return [process for process in found if _is_alive(process)]

    def stop(self) -> int:
        """Ctrl-C, then SIGTERM to the rest; returns how many processes had to be killed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._leader.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._leader.wait(STOP_TIMEOUT_S)
        if self._wait_for_end(ORPHAN_TIMEOUT_S):
            self._signal(signal.SIGTERM)
        left = self._wait_for_end(ORPHAN_TIMEOUT_S)
        self._signal(signal.SIGKILL)
        self._leader.wait()
        return left

    def _wait_for_end(self, timeout_s: float) -> int:
        """How many processes are left after the time-out."""
        deadline = time.monotonic() + timeout_s
        while (left := len(self.processes())) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return left

    def _signal(self, number: int) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def pss_mb(processes: list[psutil.Process], chosen: Callable[[psutil.Process], bool]) -> float:
    """Memory of the chosen processes; pages that several share are divided among them."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError, psutil.Error):
            if chosen(process):
                total += _pss_kb(process.pid)
    return total / 1024


class Meter:
    """CPU time since it was made: of the server, and of everything else on the machine."""

    def __init__(self, tree: Tree) -> None:
        self._processes = tree.processes()
        self._began, self._before = time.monotonic(), self._read()

    def read(self) -> tuple[float, float]:
        """(seconds of the server, cores that strangers kept busy)."""
        server, ours, machine = (now - then for now, then in zip(self._read(), self._before, strict=True))
        strangers = (machine - server - ours) / (time.monotonic() - self._began)
        return server, max(0.0, strangers)

    def _read(self) -> tuple[float, float, float]:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        ours = sum(u.ru_utime + u.ru_stime for u in usage)
        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        busy = sum(machine) - idle - getattr(machine, "guest", 0.0) - getattr(machine, "guest_nice", 0.0)
        return sum(map(_cpu_s, self._processes)), ours, busy


class Roles:
    """CPU time since it was made, by role of a server's processes, and of this process (`benchmark`)."""

    def __init__(self, tree: Tree) -> None:
        self._processes = [(process, role_of(process)) for process in tree.processes()]
        self._before = self._cpu_s()

    def read(self) -> dict[str, float]:
        """Seconds by role."""
        now = self._cpu_s()
        return {role: now[role] - self._before[role] for role in now}

    def _cpu_s(self) -> dict[str, float]:
        used: defaultdict[str, float] = defaultdict(float)
        used["benchmark"] = time.process_time()
        for process, role in self._processes:
            used[role] += _cpu_s(process)
        return used


def role_of(process: psutil.Process) -> str:
    """The role of one of marq's processes; `others` for a process without one of ROLES."""
    words = [Path(word.split()[0]).name if word else "" for word in process.cmdline()]
    return next((ROLES[word] for word in words if word in ROLES), "others")


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _is_alive(process: psutil.Process) -> bool:
    try:
        return (
            process.is_running() and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
        )
    except psutil.NoSuchProcess:
        return False
