"""The event loop of the client for code without one, in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Loop:
    """Runs coroutines for any number of threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="marq-client", daemon=True)
        self._thread.start()

    def begin(self, coroutine: Coroutine[object, None, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[object, None, T]) -> T:
        return self.begin(coroutine).result()

    def each(self, found: AsyncGenerator[T, None]) -> Iterator[T]:
        """What a generator yields, which is never None."""
        try:
            while (value := self.run(_next(found))) is not None:
                yield value
        finally:
            self.run(found.aclose())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(found: AsyncIterator[T]) -> T | None:
    return await anext(found, None)
