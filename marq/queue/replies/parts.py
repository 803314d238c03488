"""Answers that come in parts."""

import asyncio
from collections import deque
from dataclasses import dataclass

from marq.errors import StreamBroken
from marq.queue.replies.entries import Reply

MOST_UNREAD = 16 << 20  # bytes: a client that reads so much slower than the handler writes is cut off


@dataclass(slots=True)
class StreamState:
    """The parts of one answer that have arrived."""

    status: int  # of the first part, which the client has received
    parts: int = 0

    def is_repeated(self, reply: Reply) -> bool:
        """Whether this part was passed on before. The first part never counts as repeated: with it a second
        replica may start again."""
        return 1 < reply.more <= self.parts

    def follows(self, reply: Reply) -> bool:
        """Whether this is the next part, or a proper end; counts it."""
        if not reply.more:
            return reply.status == self.status or reply.status < 400
        self.parts += 1
        return reply.more == self.parts


class WholeReply(asyncio.Future[Reply]):
    """Waits for the last part; its result has the bodies of all, with the first one's status and headers."""

    lane = entry = b""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._parts: list[Reply] = []

    def set_part(self, part: Reply, /) -> None:
        self._parts.append(part)

    def set_result(self, reply: Reply, /) -> None:
        if self._parts:
            first = self._parts[0]
            body = b"".join([*(part.body for part in self._parts), reply.body])
            reply = Reply(reply.id, first.status, body, first.headers)
        super().set_result(reply)


class ReplyStream:
    """Hands out the parts of one answer in order; an answer that is not streamed is its own last part."""

    lane = entry = b""

    def __init__(self) -> None:
        self._arrived: deque[Reply | Exception] = deque()
        self._reader: asyncio.Future[None] | None = None  # cheaper than asyncio.Queue
        self._unread = 0

    def done(self) -> bool:
        return False

    def set_part(self, part: Reply, /) -> None:
        self._unread += len(part.body)
        if self._unread <= MOST_UNREAD:
            self._add(part)
        else:
            self.set_exception(StreamBroken(f"More than {MOST_UNREAD} bytes of the answer were not read."))

    def set_result(self, reply: Reply, /) -> None:
        self._add(reply)

    def set_exception(self, error: Exception, /) -> None:
        self._add(error)

    async def next(self) -> Reply:
        """The next part; the last one has `more` 0. Raises ServiceError where there is none.

        One task reads at a time.
        """
        while not self._arrived:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        arrived = self._arrived.popleft()
        if isinstance(arrived, Exception):
            raise arrived
        self._unread -= len(arrived.body) if arrived.more else 0
        return arrived

    def _add(self, arrived: Reply | Exception) -> None:
        self._arrived.append(arrived)
        if self._reader and not self._reader.done():
            self._reader.set_result(None)
