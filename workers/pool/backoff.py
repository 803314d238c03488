"""How replicas of a pool ended for the model's own fault, and when the next one may start."""

import time

BACK_OFF_S = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)  # after so many such ends in a row


class Failures:
    """Those in a row: `forget` ends it."""

    def __init__(self) -> None:
        self.count, self.reason = 0, ""
        self.since: float | None = None  # the first one (unix s)
        self._not_before = 0.0

    def add(self, reason: str) -> int:
        """Counts one; returns for how many seconds no replica is to be started."""
        pause = BACK_OFF_S[min(self.count, len(BACK_OFF_S) - 1)]
        self.count, self.reason = self.count + 1, reason
        self.since = self.since or time.time()
        self._not_before = time.monotonic() + pause
        return pause

    def forget(self) -> None:
        """A replica has shown that the model works, or all are to start anew."""
        self.count, self.reason, self.since = 0, "", None

    def end_pause(self) -> None:
        """The next replica may start at once."""
        self._not_before = 0.0

    @property
    def pausing(self) -> bool:
        return time.monotonic() < self._not_before

    def last_for(self, seconds: float) -> bool:
        """Whether the model has been failing for so long."""
        return self.since is not None and time.time() - self.since >= seconds
