"""When a host may think that another one is lost: not while it could not have heard of it."""

import time

from marq.registry.models import HEARTBEAT_LIMIT_S

SILENCE_S = HEARTBEAT_LIMIT_S / 2  # after so long without a look, Redis or this host was away


class Patience:
    """After a silence the others get the time to report that a heartbeat may take."""

    def __init__(self) -> None:
        self._looked, self._judging_from = time.monotonic(), 0.0

    def look(self) -> bool:
        """To be called at each look; whether others that are not heard of are lost."""
        now = time.monotonic()
        if now - self._looked > SILENCE_S:
            self._judging_from = now + HEARTBEAT_LIMIT_S
        self._looked = now
        return now >= self._judging_from
