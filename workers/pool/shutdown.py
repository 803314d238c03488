"""When a replica that is shutting down must be killed."""

import time
from collections.abc import Callable

from marq.queue.entries import EntryRef
from workers import scoreboard
from workers.scoreboard import Scoreboard

GRACE_S = 5.0  # beyond what a batch may take
EXIT_S = 5.0  # from the end of its last batch to the end of its process
TAKE_UP_S = 2.0  # it may begin one more batch for this time after it was asked to end


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
        self._last_rows: set[EntryRef] = set()  # rows that it may finish

    def ask(self) -> None:
        """The replica has been asked to end."""
        self._asked = self._clock()
        self._last_rows = set(self._board.running)

    def overdue(self) -> str | None:
        """Why the replica must be killed, if it should have ended by now.

        Batches that ran when it was asked to end may go on while they send parts of answers: the response
        time-out ends those that do not.
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
