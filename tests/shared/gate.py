"""A gate at which a handler waits, so that it runs for exactly as long as a test needs it to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import wait_for

# The beginning of a handler's source: it calls hold(path).
HOLD = '''
import time
from pathlib import Path


def hold(gate):
    """Returns when the test opens the gate, or after two minutes."""
    with Path(f"{gate}.reached").open("a") as reached:
        reached.write(".")
    end = time.monotonic() + 120
    while not Path(gate).exists() and time.monotonic() < end:
        time.sleep(0.01)

'''


class Gate:
    """Its text is the path that a handler is told to hold at."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def wait_until_reached(self, calls: int = 1) -> None:
        """Returns when so many calls of a handler have come to the gate."""
        wait_for(lambda: self.reached() >= calls, what="the handler")

    def reached(self) -> int:
        """How many calls have come to the gate."""
        path = self._path.with_name(f"{self._path.name}.reached")
        return path.stat().st_size if path.exists() else 0

    def open(self) -> None:
        """Lets the handler go on, and all that come later."""
        self._path.touch()


@contextmanager
def closed(path: Path) -> Iterator[Gate]:
    """A gate that opens at the end, also where a test fails."""
    gate = Gate(path)
    try:
        yield gate
    finally:
        gate.open()
