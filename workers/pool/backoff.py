"""Consecutive crashes that are blamed on the model, and the back-off before the next start."""

import time
from collections.abc import Callable

BACK_OFF_S = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)  # after the first crash, the second, ...


class Failures:
    """The consecutive crashes of one pool; `forget` resets the count."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._wall_clock = clock, wall_clock
        self.count, self.reason = 0, ""
        self.since: float | None = None  # the first one (unix s)
        self._not_before = 0.0

    def add(self, reason: str) -> int:
        """Counts a crash; returns the seconds for which no replica may be started."""
        pause = BACK_OFF_S[min(self.count, len(BACK_OFF_S) - 1)]
        self.count, self.reason = self.count + 1, reason
        self.since = self.since or self._wall_clock()
        self._not_before = self._clock() + pause
        return pause

    def forget(self) -> None:
        """A replica has shown that the model works, or all replicas are being restarted."""
        self.count, self.reason, self.since = 0, "", None

    def end_pause(self) -> None:
        """The next replica may start at once."""
        self._not_before = 0.0

    @property
    def pausing(self) -> bool:
        return self._clock() < self._not_before

    def last_for(self, seconds: float) -> bool:
        """Whether the model has been failing for at least `seconds`."""
        return self.since is not None and self._wall_clock() - self.since >= seconds
