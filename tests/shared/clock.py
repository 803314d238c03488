"""A clock that a test sets: waits take no time, and a busy machine changes nothing."""

from collections.abc import Callable


class FakeClock:
    """Like the module `time`. Called, it is the monotonic clock alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._due: list[tuple[float, Callable[[], object]]] = []

    def __call__(self) -> float:
        return self.now

    monotonic = time = __call__

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self._due and self._due[0][0] <= self.now:
            self._due.pop(0)[1]()

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Calls `action` in the sleep that reaches this time."""
        self._due.append((self.now + seconds, action))
        self._due.sort(key=lambda due: due[0])
