"""The messages that are arriving: their memory is bounded over all calls of a gateway.

A call that is not read takes `UNREAD` bytes of memory, one that is read as much as the largest message. So
only as many are read at a time as the limit has room for. gRPC reads the first half of them before it begins
their calls, which takes it half the time. The others are read by `Arrivals.read`, as soon as there is room;
small messages do not notice, as they have arrived by then.
"""

import asyncio

import grpc
from google.protobuf.message import DecodeError, Message

from gateway.grpc.failures import Code, Failure, unreadable
from marq.settings.fields import Settings

Context = grpc.aio.ServicerContext[Message | None, Message]  # None: bytes that are not a message

UNREAD = 65_536  # bytes that gRPC takes of a call before it is read
IN_THE_WAY_S = 1.0  # what a message that holds up others has left


class Arrivals:
    """Reads the message of a call. `most`: bytes of all; `largest`: bytes of one; `limit_s`: to arrive."""

    def __init__(self, most: int, largest: int, limit_s: float) -> None:
        slots = max(most // largest, 2)
        self._places = slots // 2
        self._slots = asyncio.Semaphore(slots - self._places)
        self._limit_s = limit_s
        self._waiting = 0
        self._unhurried: dict[asyncio.Timeout, None] = {}  # the limits of those that may take their time

    @classmethod
    def of(cls, settings: Settings) -> "Arrivals":
        """With the limits of the settings."""
        return cls(settings.max_buffered_bytes, settings.max_request_size, settings.slow_client_timeout)

    def place(self) -> "Place | None":
        """A place for a message that gRPC reads before it begins the call; None if all are taken."""
        return Place(self) if self._places > 0 else None

    def give(self, places: int) -> None:
        """Adds to the free places."""
        self._places += places

    async def read(self, context: Context) -> Message:
        """The only message of a call. Raises Failure if there is none, or if it does not arrive in time."""
        if self._slots.locked():
            await self._wait()
        else:
            await self._slots.acquire()
        try:
            message = await self._arrived(context)
        finally:
            self._slots.release()
        if message is None or message is grpc.aio.EOF:
            raise unreadable()
        return message

    async def _wait(self) -> None:
        """Waits for a slot; those that have one make room soon."""
        end = asyncio.get_running_loop().time() + IN_THE_WAY_S
        while self._unhurried:
            self._unhurried.popitem()[0].reschedule(end)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1

    async def _arrived(self, context: Context) -> Message | None:
        limit = asyncio.timeout(IN_THE_WAY_S if self._waiting else self._limit_s)
        try:
            async with limit:
                self._unhurried[limit] = None
                return await context.read()
        except TimeoutError:
            text = "The message did not arrive in time (slow_client_timeout), or held up others."
            raise Failure(Code.DEADLINE_EXCEEDED, text, 408) from None
        finally:
            self._unhurried.pop(limit, None)


class Place:
    """One of the places, from when it is made until its message has been read, or its call is dropped."""

    __slots__ = ("_arrivals",)

    def __init__(self, arrivals: Arrivals) -> None:
        arrivals.give(-1)
        self._arrivals: Arrivals | None = arrivals

    def read(self, kind: type[Message], data: bytes) -> Message | None:
        """The message, as `decoded`, which has arrived."""
        self._leave()
        return decoded(kind, data)

    def _leave(self) -> None:
        if self._arrivals is not None:
            self._arrivals.give(1)
            self._arrivals = None

    __del__ = _leave  # gRPC drops calls whose client goes away before its message is here


def decoded(kind: type[Message], data: bytes) -> Message | None:
    """The message; None if the bytes are not one."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None
