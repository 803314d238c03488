"""Ends processes that a handler has left running: a mark on them identifies them.

The mark is their soft limit of real-time processor time (RLIMIT_RTTIME), too large to have any other effect.
All that a replica starts inherits it. Unlike the parent, a session, the environment or the title, it is also
kept by daemons that leave, clear or overwrite those, as vLLM's engine does.
"""

import contextlib
import logging
import os
import secrets
import threading

import psutil

log = logging.getLogger(__name__)

GRACE_S = 2.0  # between SIGTERM and SIGKILL
MARKED = 1 << 62  # µs; a mark has the pool's pid and a random number below this bit
PID_SHIFT = 32


def mark(pid: int) -> int:
    """Marks the process of a new replica of the pool that is this process; returns the mark.

    Must come before the replica starts others. 0: the host does not let processes be marked.
    """
    wanted = _of_pool(os.getpid()) | secrets.randbits(PID_SHIFT)
    try:
        process = psutil.Process(pid)
        _, hard = process.rlimit(psutil.RLIMIT_RTTIME)
        process.rlimit(psutil.RLIMIT_RTTIME, (wanted, hard))
    except psutil.NoSuchProcess:
        return 0
    except (psutil.Error, OSError, ValueError) as error:
        log.warning("processes that a handler leaves running will not be ended: %s", error)
        return 0
    return wanted


def end_of_replica(mark: int) -> None:
    """Ends, in a thread, all processes with the mark, those of other users excepted."""
    if mark:
        threading.Thread(target=_end, args=(range(mark, mark + 1),), name="leftovers").start()


def end_of_pool(pid: int) -> None:
    """Ends the processes that any replica of the pool has left behind, when the pool itself has ended."""
    _end(range(_of_pool(pid), _of_pool(pid + 1)))


def _of_pool(pid: int) -> int:
    """The least mark of a pool's replicas. Not by the pool's name: its successor has the same."""
    return MARKED | pid << PID_SHIFT


def _end(marks: range) -> None:
    left = [process for process in psutil.process_iter() if _mark(process) in marks]
    if not left:
        return
    log.warning(
        "ending processes that a handler has left running: pids %s", ", ".join(str(each.pid) for each in left)
    )
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(left, GRACE_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _mark(process: psutil.Process) -> int:
    try:
        return process.rlimit(psutil.RLIMIT_RTTIME)[0]
    except (psutil.Error, OSError):
        return 0
