"""When a host may take over from others: not before they had time to report after its own outage."""

import time

from marq.registry.models import HEARTBEAT_LIMIT_S

SILENCE_S = HEARTBEAT_LIMIT_S / 2  # without a check for this time, Redis or this host was away


class Patience:
    """After an outage of Redis or of this host, other hosts get one heartbeat limit to report again."""

    def __init__(self) -> None:
        self._looked, self._judging_from = time.monotonic(), 0.0

    def look(self) -> bool:
        """Call this at each check. Returns whether hosts without a recent report are lost."""
        now = time.monotonic()
        if now - self._looked > SILENCE_S:
            self._judging_from = now + HEARTBEAT_LIMIT_S
        self._looked = now
        return now >= self._judging_from
