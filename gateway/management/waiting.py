"""Threads for management requests that wait: for replicas, for pools that end, for a download.

The other requests have FastAPI's threads, so that health checks and describe are answered meanwhile.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

MOST = 100  # requests that wait at the same time; more wait for these

P = ParamSpec("P")
R = TypeVar("R")


class WaitingRequests:
    """The threads of one application."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(MOST)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs a function that may wait."""
        call = functools.partial(function, *args, **kwargs)
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    def handler(self, function: Callable[P, R], when: str = "") -> Callable[P, Awaitable[R]]:
        """A plain handler as FastAPI takes it. `when`: the parameter that makes it wait; empty: always."""

        @functools.wraps(function)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if when and not kwargs.get(when):
                return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs))
            return await self.run(function, *args, **kwargs)

        return run
