"""Threads for the calls of plugins: one that hangs there does not keep its process from ending."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class DaemonThreads:
    """Runs calls in `count` threads; further ones wait."""

    def __init__(self, name: str, count: int) -> None:
        self._calls: SimpleQueue[tuple[Future[object], Callable[[], object]]] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True).start()

    def run(self, call: Callable[[], T]) -> "Future[T]":
        """The result, or the exception, of the call; a call that is cancelled before its start never runs."""
        future: Future[T] = Future()
        self._calls.put((future, call))  # type: ignore[arg-type]
        return future

    def _work(self) -> None:
        while True:
            future, call = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except Exception as error:
                future.set_exception(error)
            except BaseException as error:  # such as SystemExit, which would end the event loop
                future.set_exception(RuntimeError(repr(error)))
            else:
                future.set_result(result)
