"""Fetches the next batch shortly before the handler is expected to end, in a thread of its own.

A slow handler (a GPU kernel, a library that releases the interpreter's lock) leaves the interpreter idle. The
fetch comes so late that an idle replica could not have run the rows much earlier.
"""

import threading
import time
from collections.abc import Callable


class Prefetcher:
    """Calls `fetch` at the scheduled time, unless `settle` comes first."""

    def __init__(self, fetch: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._clock = fetch, clock
        self._changed = threading.Condition()
        self._at: float | None = None
        self._busy = False
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="prefetcher", daemon=True).start()

    def schedule(self, delay_s: float) -> None:
        with self._changed:
            self._at = self._clock() + delay_s
            self._changed.notify()

    def settle(self) -> Exception | None:
        """Cancels the fetch, or waits for its end if it has begun; returns the error it raised."""
        with self._changed:
            self._at = None
            while self._busy:
                self._changed.wait()
            error, self._error = self._error, None
        return error

    def _run(self) -> None:
        while True:
            self._wait_for_time()
            try:
                self._fetch()
            except Exception as error:
                self._error = error
            with self._changed:
                self._busy = False
                self._changed.notify()

    def _wait_for_time(self) -> None:
        with self._changed:
            while self._at is None or (delay_s := self._at - self._clock()) > 0:
                self._changed.wait(None if self._at is None else delay_s)
            self._at, self._busy = None, True
