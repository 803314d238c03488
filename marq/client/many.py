"""Many requests of one caller: a window of them is under way at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import TypeVar

WINDOW = 256  # requests

T = TypeVar("T")
Call = Callable[[object], Coroutine[None, None, T]]


def check_window(window: int) -> None:
    """Raises ValueError."""
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")


async def in_order(call: Call[T], rows: Iterable[object], window: int) -> AsyncGenerator[T, None]:
    """The results of `call` for each row, in their order. The first error ends it and cancels the others."""
    check_window(window)
    running: deque[asyncio.Task[T]] = deque()
    try:
        for row in rows:
            running.append(asyncio.create_task(call(row)))
            if len(running) == window:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        await _cancel(running)


async def as_finished(waits: Iterable[Coroutine[None, None, T]]) -> AsyncGenerator[T, None]:
    """The results in the order in which they come. The first error ends it and cancels the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        for next_one in asyncio.as_completed(tasks):
            yield await next_one
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Iterable["asyncio.Task[T]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
