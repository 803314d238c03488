"""Starts runs: those of one turn of the event loop are one call of the script."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from marq.queue import scripts
from marq.queue.broker import Broker

log = logging.getLogger(__name__)

MOST = 32  # runs of one call: a script holds up all other commands

Outcome = int | Exception  # what start_run.lua says of a run, or why it was not asked: as of Broker.execute
OnStarted = Callable[[Outcome], None]


class Starts:
    """The starts of one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: list[tuple[str, tuple[object, ...], OnStarted]] = []  # key, arguments, callback
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, key: str, digest: str | bytes, record: Sequence[object], on_started: OnStarted) -> None:
        """Starts a run; `on_started` is called once. `record`: names and values in turn."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append((key, (digest, len(record), *record), on_started))

    async def start(self, key: str, digest: str | bytes, record: Sequence[object]) -> Outcome:
        """The same; waits for the outcome."""
        started: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def note(outcome: Outcome) -> None:
            if not started.done():
                started.set_result(outcome)

        self.add(key, digest, record, note)
        return await started

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), MOST):
            task = asyncio.create_task(self._run(*zip(*waiting[first : first + MOST], strict=True)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(
        self,
        keys: Sequence[str],
        arguments: Sequence[tuple[object, ...]],
        callbacks: Sequence[OnStarted],
    ) -> None:
        flat = [argument for given in arguments for argument in given]
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._broker.run(scripts.START_RUN, keys, *flat)
        except Exception as error:
            outcomes = [error] * len(keys)
        for on_started, outcome in zip(callbacks, outcomes, strict=True):
            try:
                on_started(outcome)
            except Exception:  # the others must still hear of theirs
                log.exception("a run was started, but the end of that failed")
