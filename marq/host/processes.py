"""Parents and children of marq's processes: end together, limits, time-outs."""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


POLL_S = 0.1
FORCE_AFTER_S = 0.5  # some programs hand one Ctrl-C on twice
SERVER_ENDS = signal.SIGUSR1  # SIGTERM to all gateways of a host; a gateway alone gets SIGTERM
PR_SET_PDEATHSIG = 1
PARENT_VARIABLE = "MARQ_PARENT_PID"


def child_environment(*additions: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with additions, for a child that calls `die_with_parent`."""
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    for addition in additions:
        environment.update(addition)
    return environment


def die_with_parent() -> bool:
    """Asks the kernel to kill this process when the thread that started it ends (Linux).

    So a killed supervisor, node or pool leaves no orphans; their entries are requeued. Returns whether a
    process of marq is the parent: then Ctrl-C, which reaches all of them, is the supervisor's to handle.
    """
    parent = os.environ.pop(PARENT_VARIABLE, None)
    if parent is None:
        return False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before we asked
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def raise_open_files() -> None:
    """Lets this process, and those that it starts, have as many files open as the system allows.

    Each connection to a gateway is one; shells and service managers start programs with few.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS reports no limit, and refuses to set none
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Asks for the signal only; for programs that are not marq's, between fork and exec."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def say(line: bytes) -> None:
    """Writes a line to stdout, unless that is a full or closed pipe. Does not wait: for signal handlers."""
    with contextlib.suppress(OSError):
        if select.select([], [sys.stdout.fileno()], [], 0)[1]:
            os.write(sys.stdout.fileno(), line)


def end(process: "psutil.Process", timeout_s: float) -> bool:
    """Asks a process to end; whether it has within the time-out. A zombie has.

    Raises psutil.NoSuchProcess.
    """
    import psutil  # here: the watcher does not need it

    process.terminate()
    deadline = time.monotonic() + timeout_s
    while process.is_running():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                break
        except psutil.NoSuchProcess:
            break
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
