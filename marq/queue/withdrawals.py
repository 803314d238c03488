"""Takes requests back whose answers nobody waits for any more."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from marq import keys
from marq.connections.commands import Reply
from marq.errors import ServiceUnavailable
from marq.queue import scripts
from marq.queue.entries import EntryRef
from marq.queue.replies.pending import PendingRequests, Waiting
from marq.queue.replies.reader import log_failure

FINISH_S = 2.0  # at most, at the end


class Withdrawals:
    """Those of one process. A script, which `run` runs as Broker.run does, removes the entry of a request."""

    def __init__(self, pending: PendingRequests, run: Callable[..., Awaitable[Reply]]) -> None:
        self._pending, self._run = pending, run
        self._tasks: set[asyncio.Future[Reply]] = set()  # that Redis has not answered

    def withdraw(self, request_id: bytes) -> None:
        """Cancels a request; its entry leaves the queue as soon as that is known."""
        self._pending.cancel(request_id, self._take_out)

    def refuse(self, refused: Mapping[bytes, Waiting], error: ServiceUnavailable) -> None:
        """Withdraws the requests, and ends them with the error."""
        for request_id, waiting in refused.items():
            self.withdraw(request_id)
            if not waiting.done():
                waiting.set_exception(error)

    async def finish(self) -> None:
        """Waits until the entries of cancelled requests are out of the queue, if Redis answers soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                while self._pending or self._tasks:
                    await asyncio.sleep(FINISH_S / 500)
        for task in self._tasks:
            task.cancel()

    def _take_out(self, request_id: bytes, where: EntryRef) -> None:
        """A replica that already runs the request continues; if it ends, the request is not redelivered."""
        lanes = [where.lane, keys.front_of(where.lane)]
        task = asyncio.ensure_future(self._run(scripts.WITHDRAW, lanes, keys.GROUP, where.entry, request_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)
