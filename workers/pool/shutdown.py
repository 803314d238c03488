"""When a replica that is shutting down must be killed."""

import time
from collections.abc import Callable

from marq.queue.entries import EntryRef
from workers import scoreboard
from workers.scoreboard import Scoreboard

GRACE_S = 5.0  # beyond what a batch may take
EXIT_S = 5.0  # for one that has finished all that it ran
TAKE_UP_S = 2.0  # when it is asked it may be about to begin one more batch


class ShutdownDeadline:
    """The shutdown deadline of one replica, judged by its scoreboard."""

    def __init__(
        self, board: Scoreboard, batch_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`batch_s`: the longest run of a batch without a sign of life."""
        self._board, self._limit_s = board, batch_s + GRACE_S
        self._clock = clock
        self._asked: float | None = None
        self._finished: float | None = None
        self._last_rows: set[EntryRef] = set()  # what it may finish

    def ask(self) -> None:
        """The replica has been asked to end."""
        self._asked = self._clock()
        self._last_rows = set(self._board.running)

    def overdue(self) -> str | None:
        """Why the replica must be killed, if it should have ended by now.

        What it ran when it was asked to end may go on while it gives signs of life, as an answer in parts
        does: that is for the response time-out to end.
        """
        now = self._clock()
        if self._board.state == scoreboard.DRAINING:
            self._finished = self._finished or now
            late = now - self._finished > EXIT_S
            return f"it has finished, but not ended for {EXIT_S:g} s" if late else None
        if self._asked is None:
            return None
        running = set(self._board.running)
        if now - self._asked < TAKE_UP_S:
            self._last_rows |= running
        late = now - self._asked > self._limit_s and not running & self._last_rows
        return f"it was asked to end {self._limit_s:g} s ago" if late else None
