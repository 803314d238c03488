"""The steps of a pool's loop: one that fails runs again, and failures are logged without a flood."""

import logging
import time
from collections.abc import Callable

import redis

log = logging.getLogger(__name__)

PAUSE_S = 0.5  # after a failure
CALM_S = 5.0  # without a failure: longer than the pauses between the commands that Redis may refuse


class Steps:
    """Runs steps, whatever they raise: a pool outlives Redis, and a full disk."""

    def __init__(self, pool: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool, self._clock = pool, clock
        self._logged: set[str] = set()  # the kinds of failures, until a calm time
        self._failed = 0.0  # when a step failed last
        self._redis_failing: float | None = None  # since when
        self.redis_failure = ""  # the last one

    def run(self, step: Callable[[], object]) -> None:
        """Runs a step, or logs its failure and pauses. The same failure is logged once until all is calm."""
        try:
            step()
        except Exception as error:
            self._note(error)
            time.sleep(PAUSE_S)
        else:
            if self._logged and self._clock() - self._failed > CALM_S:
                self._logged.clear()
                self._redis_failing = None

    def redis_fails_for(self) -> float:
        """Seconds since Redis began to fail or to refuse commands; 0.0 while it works."""
        return 0.0 if self._redis_failing is None else self._clock() - self._redis_failing

    def _note(self, error: Exception) -> None:
        self._failed = self._clock()
        if isinstance(error, redis.RedisError):
            self.redis_failure = str(error)
            if self._redis_failing is None:
                self._redis_failing = self._failed
        expected = isinstance(error, redis.RedisError | OSError)  # the host cannot start a process now
        kind = type(error).__name__
        shown = kind if expected else f"{kind}: {error}"
        if shown not in self._logged:
            log.warning(
                "pool %s cannot do its work now and tries again: %s",
                self._pool,
                error,
                exc_info=None if expected else error,
            )
        self._logged.add(shown)
