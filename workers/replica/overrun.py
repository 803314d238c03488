"""What becomes of rows that were fetched ahead when the handler takes much longer than expected.

They go back to the queue, so that an idle sibling runs them and they can still be cancelled.
"""

import logging
import threading
import time
from collections.abc import Callable

import redis

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.05
HELD_S, HELD_SHARE = 0.1, 0.5  # rows are held for so long, or for such a part of the handler's time, at most


class Overrun:
    """Watches the runs of a handler. `give_back` is called during a run, in a thread of its own, and may then
    use what otherwise is the main thread's."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back = give_back
        self._runs = threading.Lock()  # the main thread's except while the handler runs
        self._runs.acquire()
        self._thread: threading.Thread | None = None
        self._usual_s = 0.0
        self._since = 0.0
        self._holds = False
        self.failure: Exception | None = None

    def begin(self, usual_s: float, holds: bool) -> None:
        """The handler begins, which usually takes so long; `holds`: there are rows that wait for its end."""
        self._usual_s, self._since, self._holds = usual_s, time.monotonic(), holds
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="overrun", daemon=True)
            self._thread.start()
        self._runs.release()

    def end(self) -> None:
        """The handler has ended. Waits while rows are given back."""
        self._runs.acquire()

    def fetch(self, read: Callable[[], None]) -> None:
        """Reads more rows during a run."""
        with self._runs:
            read()
            self._since, self._holds = time.monotonic(), True

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            if self._is_over():
                with self._runs:
                    self._end_waiting()

    def _is_over(self) -> bool:
        calm_s = time.monotonic() - self._since  # since something was begun or fetched
        return self._holds and calm_s > max(HELD_S, self._usual_s * HELD_SHARE)

    def _end_waiting(self) -> None:
        if self._is_over():  # not if the handler has ended, and begun anew, in the meantime
            self._holds = False
            try:
                self._give_back()
            except redis.RedisError as error:
                self.failure = error
