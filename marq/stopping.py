"""Ends a server's process from outside."""

import time

import psutil

POLL_S = 0.1


def end(process: psutil.Process, timeout_s: float) -> bool:
    """Asks a process to end; whether it has within the time-out. A zombie has.

    Raises psutil.NoSuchProcess.
    """
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
