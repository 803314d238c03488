"""Progress that a handler reports while it runs."""

import threading
import time
from collections.abc import Callable, Sequence

from marq.queue.job_records import Progress

EVERY_S = 0.3

Reports = Sequence[tuple[int, Progress]]  # each with the index of its request


class ProgressReports:
    """Sends the newest progress of each request, every EVERY_S at most. May be used by any thread."""

    def __init__(self, send: Callable[[Reports], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._newest: dict[int, Progress] = {}
        self._is_waiting = False
        self._last = -EVERY_S  # monotonic s

    def add(self, index: int, progress: Progress) -> None:
        """Sends it at once, or soon if there was another one just now."""
        with self._lock:
            self._newest[index] = progress
            if self._is_waiting:
                return
            left = self._last + EVERY_S - time.monotonic()
            if left <= 0:
                self._flush()
                return
            self._is_waiting = True
        timer = threading.Timer(left, self._end_wait)
        timer.daemon = True
        timer.start()

    def _end_wait(self) -> None:
        with self._lock:
            self._is_waiting = False
            self._flush()

    def _flush(self) -> None:
        newest, self._newest = self._newest, {}
        self._last = time.monotonic()
        self._send(list(newest.items()))
