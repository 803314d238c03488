"""Consecutive failures of a model, and the pause before the next attempt."""

import re
import time
from collections.abc import Callable, Sequence

BACK_OFF_S = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)  # after the first crash of a replica, the second, ...


class Failures:
    """Counts crashes of replicas, or attempts to prepare a model; `forget` resets the count."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pauses_s: Sequence[float] = BACK_OFF_S,
        repeats: bool = True,
    ) -> None:
        self._clock, self._wall_clock, self._pauses_s = clock, wall_clock, pauses_s
        self.repeats = repeats  # False: no attempt follows a failure until it is forgotten
        self.count, self.reason = 0, ""
        self.since: float | None = None  # the first one (unix s)
        self.is_repeated = False  # whether the last failure was like the one before
        self._pattern = ""
        self._not_before = 0.0

    def add(self, reason: str) -> float:
        """Counts a failure; returns the seconds until the next attempt."""
        pause = self._pauses_s[min(self.count, len(self._pauses_s) - 1)]
        self.count, self.reason = self.count + 1, reason
        before, self._pattern = self._pattern, _pattern(reason)
        self.is_repeated = before == self._pattern
        self.since = self.since or self._wall_clock()
        self._not_before = self._clock() + pause
        return pause

    def forget(self) -> None:
        """The model works, or all its replicas are being restarted."""
        self.count, self.reason, self.since = 0, "", None
        self.is_repeated, self._pattern = False, ""

    def end_pause(self) -> None:
        """The next attempt, if there is one, may start at once."""
        self._not_before = 0.0

    @property
    def pausing(self) -> bool:
        """Whether no attempt may start now."""
        return self._clock() < self._not_before or (self.count > 0 and not self.repeats)

    def last_for(self, seconds: float) -> bool:
        """Whether the model has been failing for at least `seconds`."""
        return self.since is not None and self._wall_clock() - self.since >= seconds


def _pattern(reason: str) -> str:
    """The last line, which names the error, without addresses, pids and other numbers."""
    lines = reason.strip().splitlines()
    return re.sub(r"0x[0-9a-f]+|\d+", "#", lines[-1]) if lines else ""
