"""Connections to the primary that sentinels name; they leave a server that is demoted."""

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
import redis
from redis import asyncio as redis_asyncio
from redis.connection import Connection, ConnectionPool, SSLConnection

from marq.connections import sentinels as sentinel
from marq.connections.commands import Reply
from marq.connections.sentinels import Sentinels

LOOK_EVERY_S = 1.0
REPLY_TIMEOUT_S = 5.0  # a server that does not answer is left; commands block for at most 1 s


class PrimaryConnection(Connection):
    """A connection of redis-py that looks for the primary each time it connects.

    (redis-py's own class for this goes back to the old server where a command connects again.)
    """

    def __init__(self, sentinels: Sentinels, **options: object) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._sentinels = sentinels

    def connect(self) -> None:
        """Called by a pool that hands it out; connects again if its server is known to be demoted."""
        if (self.host, self.port) != self._sentinels.known:
            self.disconnect()  # type: ignore[no-untyped-call]
        super().connect()  # type: ignore[no-untyped-call]

    def _connect(self) -> object:
        self.host, self.port = self._sentinels.primary()
        return super()._connect()  # type: ignore[no-untyped-call]

    def read_response(self, *args: object, **options: object) -> Reply:
        try:
            return super().read_response(*args, **options)
        except redis.ResponseError as error:
            is_demoted = isinstance(error, redis.exceptions.ReadOnlyError)
            is_cut_off = str(error).startswith("NOREPLICAS")
            if not (is_demoted or is_cut_off):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(f"the server takes no writes: {error}") from error


class PrimaryTLSConnection(PrimaryConnection, SSLConnection):
    """The same over TLS."""


class AsyncPrimaryConnection(redis_asyncio.Connection):
    """The same for redis.asyncio. For reading only: it stays with a primary until that server closes it."""

    def __init__(self, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    async def _connect(self) -> None:
        self.host, self.port = await asyncio.to_thread(self._sentinels.primary)
        await super()._connect()  # type: ignore[no-untyped-call]


class AsyncPrimaryTLSConnection(AsyncPrimaryConnection, redis_asyncio.SSLConnection):
    """The same over TLS."""


def pool(url: str, **options: object) -> ConnectionPool:
    """Connections to the primary of the service that the URL names. Raises ValueError."""
    found = sentinel.of(url)
    kind = PrimaryTLSConnection if found.uses_tls else PrimaryConnection
    return ConnectionPool(kind, sentinels=found, **_options(found, options))


def asynchronous_pool(url: str, **options: object) -> redis_asyncio.ConnectionPool:
    """The same for redis.asyncio."""
    found = sentinel.of(url)
    kind = AsyncPrimaryTLSConnection if found.uses_tls else AsyncPrimaryConnection
    return redis_asyncio.ConnectionPool(kind, sentinels=found, **_options(found, options))


def _options(found: Sentinels, options: dict[str, object]) -> dict[str, Any]:
    return {"socket_timeout": REPLY_TIMEOUT_S, **options, **found.connection_options()}


def reader(leave: Callable[[], None]) -> hiredis.Reader:
    """Parses replies, and calls `leave` when the server refuses writes because it is not a primary."""

    def make_error(message: str) -> hiredis.ReplyError:
        if message.startswith("READONLY"):
            leave()
        return hiredis.ReplyError(message)

    return hiredis.Reader(replyError=make_error)


def abort_when_demoted(transport: asyncio.Transport, url: str, server: str) -> None:
    """Closes a connection to `server` as soon as the sentinels name another primary; asks them every second.

    A server that hangs, or whose host has vanished, does not close its connections.
    """
    loop = asyncio.get_running_loop()

    def look() -> None:
        if not transport.is_closing():
            loop.run_in_executor(None, sentinel.primary_url, url).add_done_callback(judge)

    def judge(asked: asyncio.Future[str]) -> None:
        unknown = asked.cancelled() or asked.exception()
        if unknown or asked.result() == server:
            loop.call_later(LOOK_EVERY_S, look)
        else:
            transport.abort()

    loop.call_later(LOOK_EVERY_S, look)
