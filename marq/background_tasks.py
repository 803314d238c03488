"""Background tasks of an event loop: none of them ends unnoticed."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

from marq.errors import MarqError

log = logging.getLogger(__name__)

RESTART_DELAY_S = 1.0
MOST_ENDS, WITHIN_S = 5, 60.0


class TaskKeepsEnding(MarqError):
    """Raised when a background task ends again and again; the process should end, too."""


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    restart_delay_s: float = RESTART_DELAY_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Runs a task that should never end. When it ends, logs the reason and starts it again.

    Raises TaskKeepsEnding when it has ended MOST_ENDS times within WITHIN_S seconds.
    """
    ends: deque[float] = deque(maxlen=MOST_ENDS)
    while True:
        try:
            await run()
            log.error("the task %s returned; starting it again in %g s", name, restart_delay_s)
        except Exception:
            log.exception("the task %s failed; starting it again in %g s", name, restart_delay_s)
        ends.append(clock())
        if len(ends) == MOST_ENDS and ends[-1] - ends[0] < WITHIN_S:
            raise TaskKeepsEnding(f"The task {name} ended {MOST_ENDS} times within {WITHIN_S:g} s.")
        await asyncio.sleep(restart_delay_s)
