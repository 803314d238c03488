"""Does one thing a little before the handler is expected to be done, in a thread of its own.

A slow handler (a GPU kernel, a library that releases the interpreter's lock) leaves the interpreter idle: its
next batch is fetched meanwhile, so late that no idle sibling would have come to it much earlier.
"""

import threading
import time
from collections.abc import Callable


class Prefetcher:
    """Runs `fetch` at a given time unless told before that it is too late."""

    def __init__(self, fetch: Callable[[], None]) -> None:
        self._fetch = fetch
        self._changed = threading.Condition()
        self._at: float | None = None
        self._busy = False
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="prefetcher", daemon=True).start()

    def schedule(self, delay_s: float) -> None:
        with self._changed:
            self._at = time.monotonic() + delay_s
            self._changed.notify()

    def settle(self) -> Exception | None:
        """Calls it off, or waits for its end where it has begun; returns what it raised."""
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
            while self._at is None or (delay_s := self._at - time.monotonic()) > 0:
                self._changed.wait(None if self._at is None else delay_s)
            self._at, self._busy = None, True
