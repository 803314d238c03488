"""Passes finished requests on to the observers of plugins, in threads of their own: no request waits."""

import logging
import threading
import time
from collections import deque

from gateway.inference.request_hooks import End
from gateway.routing.route import Route
from marq.plugins.discovery import Plugin
from marq.plugins.protocols import Finished
from marq.queue.entries import EntryFields

log = logging.getLogger(__name__)

MOST_WAITING = 10_000  # for one observer; later ones are dropped and counted
MOST_AT_ONCE = 1_000
PAUSE_S = 0.05  # in which the requests of one call come together
SLOW_S = 1.0
QUIET_S = 60.0  # between two lines about the same observer
END_S = 2.0  # for the rest, at the end of the gateway


class Observing:
    """One observer and its thread; a hook of predictions."""

    def __init__(self, plugin: Plugin, most: int = MOST_WAITING, pause_s: float = PAUSE_S) -> None:
        self._observer, self._label = plugin.made, plugin.found.label
        self._most, self._pause_s = most, pause_s
        self._waiting: deque[Finished] = deque()
        self._new, self._ended = threading.Event(), threading.Event()
        self._is_ending = False
        self._quiet_until = 0.0
        self.noted = 0  # how many requests it has seen or will see
        self.done = 0  # how many of them it has seen
        self.dropped = 0  # that it never sees, because it was too slow or raised
        threading.Thread(target=self._run, name=f"observer {plugin.found.name}", daemon=True).start()

    def before(self, route: Route, fields: EntryFields) -> None:
        """Observers see ends only."""

    def after(self, route: Route, fields: EntryFields, end: End) -> None:
        """Notes a request; takes a microsecond or two."""
        if len(self._waiting) >= self._most:
            self.dropped += 1
            self._complain("%s does not keep up: %d requests dropped so far", self.dropped)
            return
        spec = route.spec
        self.note(
            Finished(
                end.workflow or spec.name, spec.version, end.kind, end.status, time.time(), end.seconds,
                fields.size, end.answer_bytes,
            )
        )  # fmt: skip

    @property
    def room(self) -> int:
        """How many more requests can wait for it."""
        return self._most - len(self._waiting)

    def note(self, finished: Finished) -> None:
        """Adds a request, whether or not there is room."""
        self.noted += 1
        self._waiting.append(finished)
        if not self._new.is_set():
            self._new.set()

    def end(self, limit_s: float = END_S) -> None:
        """Returns when the observer has seen everything, or after the limit."""
        self._is_ending = True
        self._new.set()
        if not self._ended.wait(limit_s):
            log.warning("%s has not seen the last %d requests", self._label, len(self._waiting))

    def _run(self) -> None:
        while not self._is_ending or self._waiting:
            self._new.wait()
            if not self._is_ending:
                time.sleep(self._pause_s)
            self._new.clear()
            while self._waiting:
                self._pass_on()
        self._ended.set()

    def _pass_on(self) -> None:
        count = min(len(self._waiting), MOST_AT_ONCE)
        finished = [self._waiting.popleft() for _ in range(count)]
        began = time.monotonic()
        try:
            self._observer.observe(finished)
        except BaseException as error:  # also SystemExit: the thread goes on
            self.dropped += count
            self._complain("%s failed; %d requests dropped so far", self.dropped, error=error)
        self.done += count
        if (seconds := time.monotonic() - began) > SLOW_S:
            self._complain("%s is slow: %.1f s for %d requests", seconds, count)

    def _complain(self, text: str, *numbers: float, error: BaseException | None = None) -> None:
        now = time.monotonic()
        if now > self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.error(text, self._label, *numbers, exc_info=error)
