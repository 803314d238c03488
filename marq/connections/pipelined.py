"""The asynchronous connection to Redis that gateways and clients use.

Commands of one event-loop turn leave in one write; one reader resolves all replies. Built on hiredis alone,
because this is the hot path of every prediction.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
import redis

from marq.connections import primary, scripts, sentinels
from marq.connections.commands import Reply
from marq.connections.urls import (
    CONNECT_TIMEOUT_S,
    PROBES,
    RECONNECT_DELAY_S,
    Command,
    Options,
    pack,
    parse,
    tls_context,
    without_password,
)
from marq.errors import ConnectionLost, RedisUnavailable

log = logging.getLogger(__name__)

Waiter = asyncio.Future[Reply] | bytes  # bytes: a tag, which is cheaper than a future
OnTagged = Callable[[bytes, object], None]
OnLost = Callable[["PipelinedConnection"], None]


def _ignore(tag: bytes, reply: object) -> None:
    """For connections whose commands have no tags."""


class PipelinedConnection(asyncio.Protocol):
    """One Redis connection; all commands of one turn of the event loop leave in one write.

    `on_lost` is called with the connection when it has ended. `on_tagged` is called with the tag and the
    reply of each command that was sent with a tag; the reply may be an exception.
    """

    def __init__(self, on_lost: OnLost, on_tagged: OnTagged = _ignore) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiters: deque[Waiter] = deque()
        self._outgoing: list[bytes] = []
        self._transport: Any = None
        self._on_lost, self._on_tagged = on_lost, on_tagged
        self.on_message: Callable[[bytes, bytes], None] | None = None  # of a subscription

    @classmethod
    async def open(cls, url: str, on_lost: OnLost, on_tagged: OnTagged = _ignore) -> "PipelinedConnection":
        """Connects and authenticates. Raises RedisUnavailable."""
        loop, connection = asyncio.get_running_loop(), cls(on_lost, on_tagged)
        connection._reader = primary.reader(connection.close)
        server = url
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if sentinels.is_url(url):
                    server = await asyncio.to_thread(sentinels.primary_url, url)
                options = parse(server)
                if "path" in options:
                    await loop.create_unix_connection(lambda: connection, options["path"])
                else:
                    await loop.create_connection(
                        lambda: connection,
                        options.get("host", "localhost"),
                        options.get("port", 6379),
                        ssl=tls_context(options) if server.startswith("rediss:") else None,
                    )
                await connection._log_in(options)
        except (OSError, TimeoutError, ValueError, hiredis.ReplyError, redis.RedisError) as error:
            connection.close()
            raise RedisUnavailable(f"Redis at {without_password(url)} cannot be used: {error}") from error
        if server != url:
            primary.abort_when_demoted(connection._transport, url, server)
        return connection

    async def _log_in(self, options: Options) -> None:
        if password := options.get("password"):
            await self.execute("AUTH", options.get("username") or "default", password)
        if database := options.get("db"):
            await self.execute("SELECT", database)

    def send(self, packed: bytes, waiter: Waiter) -> None:
        """Queues a packed command; `waiter` is a future of its reply, or the tag for `on_tagged`."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)
        self._waiters.append(waiter)

    def expect(self, waiter: Waiter) -> None:
        """Notes one more command at the beginning of the next packed one, which follows at once."""
        self._waiters.append(waiter)

    def execute(self, *command: object) -> asyncio.Future[Reply]:
        """The reply of one command; hiredis.ReplyError is raised where Redis refuses it."""
        future = self._loop.create_future()
        self.send(pack(command), future)
        return future

    async def run(self, call: Command) -> Reply:
        """The reply of one script; hiredis.ReplyError is raised where Redis refuses it.

        Scripts that Redis does not know are loaded.
        """
        try:
            return await self.execute(*call)
        except hiredis.ReplyError as error:
            (reply,) = await self._run_again([call], [error])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run_all(self, calls: Sequence[Command]) -> list[Reply]:
        """The replies of many scripts, pipelined; errors are hiredis.ReplyError objects in their place."""
        return await self._run_again(calls, await self._pipeline(calls))

    async def _run_again(self, calls: Sequence[Command], replies: list[Reply]) -> list[Reply]:
        if again := scripts.rerun(calls, replies):
            again.merge(replies, await self._pipeline(again.commands))
        return replies

    async def _pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends all commands in one write. (Awaiting one future after the other is cheaper than gather.)"""
        replies: list[Reply] = []
        lost: ConnectionError | None = None
        for future in [self.execute(*command) for command in commands]:
            try:
                replies.append(await future)
            except hiredis.ReplyError as error:
                replies.append(error)
            except ConnectionError as error:
                lost = error
        if lost:
            raise lost
        return replies

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def _flush(self) -> None:
        packed, self._outgoing = b"".join(self._outgoing), []
        if self._transport:
            self._transport.write(packed)
        else:
            self._fail_all("it was lost before")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        connected = transport.get_extra_info("socket")
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in PROBES.items():
                connected.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if self.on_message and isinstance(reply, list) and reply[0] == b"message":
                self.on_message(reply[1], reply[2])
                continue
            waiter = self._waiters.popleft()
            if isinstance(waiter, bytes):
                self._on_tagged(waiter, reply)
            elif not waiter.done():
                if isinstance(reply, hiredis.ReplyError):
                    waiter.set_exception(reply)
                else:
                    waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail_all(str(exc or "closed by the server"))
        self._on_lost(self)

    def _fail_all(self, reason: str) -> None:
        lost = ConnectionLost(f"the connection to Redis was lost: {reason}")
        while self._waiters:
            waiter = self._waiters.popleft()
            if isinstance(waiter, bytes):
                self._on_tagged(waiter, lost)
            elif not waiter.done():
                waiter.set_exception(lost)


async def reconnect(connect: Callable[[], Awaitable[None]]) -> None:
    """Calls `connect` until it succeeds, after its connection was lost."""
    log.warning("the connection to Redis was lost; connecting again")
    while True:
        try:
            await connect()
        except (RedisUnavailable, ConnectionError, hiredis.ReplyError):
            await asyncio.sleep(RECONNECT_DELAY_S)
        else:
            log.warning("connected to Redis again")
            return
