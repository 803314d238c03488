"""Processes that a handler has left behind: found by a mark in their environment, and ended.

A mark, unlike a process group or the parent, is kept by daemons that have left both.
"""

import contextlib
import logging
import secrets
import threading

import psutil

from workers.launch import PoolSpec

log = logging.getLogger(__name__)

MARK_VARIABLE = "MARQ_REPLICA_MARK"
GRACE_S = 2.0  # between SIGTERM and SIGKILL


def new_mark(pool: PoolSpec) -> str:
    """A mark for the environment of one replica of the pool."""
    return f"{_prefix(pool)}{secrets.token_hex(8)}"


def end_of_replica(mark: str) -> None:
    """Ends, in a thread, all processes with the mark, those of other users excepted."""
    threading.Thread(target=_end, args=(mark,), name="leftovers").start()


def end_of_pool(pool: PoolSpec) -> None:
    """Ends the processes that any replica of the pool has left behind; for a pool that has ended itself."""
    _end(_prefix(pool))


def _prefix(pool: PoolSpec) -> str:
    """Another server on this host may have a pool of the same name, but not the same directory."""
    return f"{pool.run_dir}:{pool.name}/"


def _end(prefix: str) -> None:
    left = [process for process in psutil.process_iter() if _mark(process).startswith(prefix)]
    if not left:
        return
    log.warning("ending what a handler has left behind: %s", ", ".join(str(each.pid) for each in left))
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
