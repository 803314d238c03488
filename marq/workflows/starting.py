"""Starts runs: those of one turn of the event loop are one call of the script."""

import asyncio
from collections.abc import Sequence

from marq.queue import scripts
from marq.queue.broker import Broker

MOST = 32  # runs of one call: a script holds up all other commands

_Start = tuple[str, Sequence[object], asyncio.Future[int]]  # key, arguments, what the script says of it


class Starts:
    """The starts of one process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: list[_Start] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, key: str, digest: str | bytes, record: Sequence[object]) -> int:
        """What start_run.lua says of one run. Raises as Broker.execute.

        `record`: names and values in turn.
        """
        loop = asyncio.get_running_loop()
        started: asyncio.Future[int] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append((key, (digest, len(record), *record), started))
        return await started

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), MOST):
            task = asyncio.create_task(self._run(waiting[first : first + MOST]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, starts: Sequence[_Start]) -> None:
        arguments = [argument for _, given, _ in starts for argument in given]
        try:
            codes = await self._broker.run(scripts.START_RUN, [key for key, _, _ in starts], *arguments)
        except Exception as error:
            for _, _, started in starts:
                if not started.done():
                    started.set_exception(error)
            return
        for (_, _, started), code in zip(starts, codes, strict=True):
            if not started.done():
                started.set_result(code)
