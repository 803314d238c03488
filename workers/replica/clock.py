"""The clock of a batch source. The module `time` is one; tests hand in their own."""

from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds, for durations."""

    def time(self) -> float:
        """Unix seconds, to compare with the Redis server's clock."""

    def sleep(self, seconds: float, /) -> None: ...
