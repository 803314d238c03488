"""How signals end a node that `marq node` runs: the first one in order, a second Ctrl-C at once."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from marq.host.processes import FORCE_AFTER_S, say

INTERRUPTED = 130  # the exit code after Ctrl-C
STOPPING = b"Stopping: running batches are finished, queued requests stay queued. Ctrl-C again forces it.\n"
FORCED = b"Forced: running requests are ended, and run again on another node or after the next start.\n"


class Interrupts:
    """A signal handler. The pools of a node that ends are ended by the kernel."""

    def __init__(
        self,
        stop: Callable[[], None],
        force: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop, self._force, self._clock = stop, force, clock
        self._since: float | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        if self._since is None:
            self._since = now
            self._stop()
            say(STOPPING)
        elif number == signal.SIGINT and now - self._since > FORCE_AFTER_S:
            say(FORCED)
            self._force(INTERRUPTED)
