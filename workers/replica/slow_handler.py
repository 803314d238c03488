"""Gives fetched rows back to the queue when the handler takes much longer than expected.

There an idle replica can run them, and clients can cancel them.
"""

import threading
import time
from collections.abc import Callable

import redis

LOOK_EVERY_S = 0.05
HELD_S, HELD_SHARE = (
    0.1,
    0.5,
)  # rows wait for so long, or for such a part of the handler's usual time, at most


class SlowHandlerWatch:
    """Calls `give_back` during a run of the handler that is late, in a thread of its own.

    The connection and the fetched rows belong to the main thread, but not while the handler runs. So the main
    thread holds `_idle` all the time and releases it for each run: another thread that takes the lock knows
    that the handler runs, and keeps the main thread in `end` until it has finished.
    """

    def __init__(self, give_back: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._give_back, self._clock = give_back, clock
        self._idle = threading.Lock()
        self._idle.acquire()
        self._thread: threading.Thread | None = None
        self._usual_s = 0.0
        self._since = 0.0  # when the run began, or when rows were fetched during it
        self._has_rows = False
        self.failure: Exception | None = None

    def begin(self, usual_s: float, has_rows: bool) -> None:
        """The handler begins and usually takes `usual_s`; `has_rows`: fetched rows wait for its end."""
        self._usual_s, self._since, self._has_rows = usual_s, self._clock(), has_rows
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="slow handler watch", daemon=True)
            self._thread.start()
        self._idle.release()

    def end(self) -> None:
        """The handler has ended. Waits while rows are fetched or given back."""
        self._idle.acquire()

    def fetch(self, read: Callable[[], None]) -> None:
        """Calls `read`, which fetches rows, during a run."""
        with self._idle:
            read()
            self._since, self._has_rows = self._clock(), True

    def look(self) -> None:
        """Gives the rows back if the handler is late. Called every LOOK_EVERY_S."""
        if self._is_late():
            with self._idle:
                self._end_waiting()

    def _follow(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            self.look()

    def _is_late(self) -> bool:
        return self._has_rows and self._clock() - self._since > max(HELD_S, self._usual_s * HELD_SHARE)

    def _end_waiting(self) -> None:
        if self._is_late():  # false if the next run has begun before this thread got the lock
            self._has_rows = False
            try:
                self._give_back()
            except redis.RedisError as error:
                self.failure = error
