"""Ends processes that a handler has left running: a mark in their environment identifies them.

A mark, unlike a process group or the parent, is kept by daemons that have left both.
"""

import contextlib
import logging
import os
import secrets
import threading

import psutil

log = logging.getLogger(__name__)

MARK_VARIABLE = "MARQ_REPLICA_MARK"
GRACE_S = 2.0  # between SIGTERM and SIGKILL


def new_mark() -> str:
    """A mark for the environment of one replica of the pool that is this process."""
    return f"{_prefix(os.getpid())}{secrets.token_hex(8)}"


def end_of_replica(mark: str) -> None:
    """Ends, in a thread, all processes with the mark, those of other users excepted."""
    threading.Thread(target=_end, args=(mark,), name="leftovers").start()


def end_of_pool(pid: int) -> None:
    """Ends the processes that any replica of the pool has left behind, when the pool itself has ended."""
    _end(_prefix(pid))


def _prefix(pool_pid: int) -> str:
    """Not the pool's name: its successor has the same."""
    return f"{pool_pid}/"


def _end(prefix: str) -> None:
    left = [process for process in psutil.process_iter() if _mark(process).startswith(prefix)]
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


def _mark(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(MARK_VARIABLE, ""))
    except (psutil.Error, OSError):
        return ""
