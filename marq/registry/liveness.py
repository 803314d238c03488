"""When a host may take over from others: not before they had time to report after its own outage."""

import time
from collections.abc import Callable

from marq.registry.models import HEARTBEAT_LIMIT_S

SILENCE_S = HEARTBEAT_LIMIT_S / 2  # without a check for this time, Redis or this host was away


class TakeoverGuard:
    """After an outage of this process or of Redis, peers get one heartbeat limit to report again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked, self._allowed_from = clock(), 0.0

    def may_take_over(self) -> bool:
        """Whether peers without a heartbeat are lost. Call this at each check."""
        now = self._clock()
        if now - self._looked > SILENCE_S:
            self._allowed_from = now + HEARTBEAT_LIMIT_S
        self._looked = now
        return now >= self._allowed_from
