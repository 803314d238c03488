"""The gateway's and the clients' way to the queue: the hot path of every prediction.

A prediction costs one packed XADD and a dictionary entry here, nothing else.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

import hiredis

from marq import keys, scripts
from marq.connection import pack
from marq.errors import MalformedEntry, RedisUnavailable, ServiceUnavailable, StreamBroken
from marq.message import Reply, decode_replies
from marq.pipelined import PipelinedConnection, Waiting
from marq.streams import ReplyStream, StreamState, WholeReply

log = logging.getLogger(__name__)

REPLIES_TTL_S = 60  # a reply stream whose reader is gone disappears after so long
KEEP_EVERY_S = REPLIES_TTL_S / 3
RECONNECT_DELAY_S = 0.2
TRIM_EVERY = 64  # reply entries that are left in the stream at most, plus those of one read
UNREACHABLE = "Redis is not reachable at the moment. Try again later."


class Broker:
    """Queues requests and resolves their replies, over one connection for each direction.

    Raises ServiceUnavailable where a request cannot be queued. Lost connections are opened again in the
    background.
    """

    def __init__(self, url: str, name: str = "") -> None:
        self.url = url
        self.stream = keys.replies(name or f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}")
        self._stream = self.stream.encode()
        self._pending: dict[bytes, Waiting] = {}
        self._streams: dict[bytes, StreamState] = {}  # of those in `_pending` that have got parts
        self._commands: PipelinedConnection | None = None
        self._replies: PipelinedConnection | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._last = b"0"
        self._untrimmed = 0

    async def start(self) -> None:
        """Connects. Raises RedisUnavailable."""
        self._loop = asyncio.get_running_loop()
        await self._connect_commands()
        await self._connect_replies()
        self._spawn(self._keep_stream())

    async def stop(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._commands:
            try:
                await self._commands.execute("DEL", self.stream)
            except (ConnectionError, hiredis.ReplyError):
                log.debug("the reply stream %s is left to expire", self.stream)
        for connection in (self._commands, self._replies):
            if connection:
                connection.close()
        self._fail_pending("The gateway is stopping.")

    @property
    def in_flight(self) -> int:
        """How many predictions wait for their reply."""
        return len(self._pending)

    def predict(self, lane: bytes, request_id: bytes, fields: tuple[bytes, ...]) -> asyncio.Future[Reply]:
        """Queues one prediction; the future is its whole reply, also where that comes in parts.

        `fields` are the entry's other fields, flat.
        """
        answer = WholeReply(loop=self._loop)
        self.queue(lane, request_id, fields, answer)
        return answer

    def predict_in_parts(self, lane: bytes, request_id: bytes, fields: tuple[bytes, ...]) -> ReplyStream:
        """The same, for a reader that takes the parts as they come."""
        stream = ReplyStream()
        self.queue(lane, request_id, fields, stream)
        return stream

    def queue(self, lane: bytes, request_id: bytes, fields: tuple[bytes, ...], waiting: Waiting) -> None:
        """The same for something else than a future. Raises ServiceUnavailable while Redis is gone."""
        if self._commands is None:
            raise ServiceUnavailable(UNREACHABLE)
        self._pending[request_id] = waiting
        command = (b"XADD", lane, b"*", b"id", request_id, b"replies", self._stream, *fields)
        self._commands.send(pack(command), request_id)

    def _fail_pending(self, reason: str) -> None:
        pending = list(self._pending.values())
        self._pending.clear()
        self._streams.clear()
        for waiting in pending:
            if not waiting.done():
                waiting.set_exception(ServiceUnavailable(reason))

    def forget(self, request_id: bytes) -> None:
        """Drops interest in a reply; it is ignored when it comes."""
        self._pending.pop(request_id, None)
        self._streams.pop(request_id, None)

    def withdraw(self, lane: bytes, request_id: bytes) -> None:
        """Drops interest in a reply; what is queued is not run any more, and what streams is stopped."""
        waiting, streams = self._pending.get(request_id), request_id in self._streams
        self.forget(request_id)
        if waiting is not None and waiting.entry and self._commands is not None:
            command = scripts.WITHDRAW.call([lane], keys.GROUP, waiting.entry, int(streams))
            self._commands.execute(*command).add_done_callback(_log_failure)

    def execute(self, *command: object) -> asyncio.Future[Any]:
        """The raw reply of any command. Raises hiredis.ReplyError, ConnectionError or ServiceUnavailable."""
        if self._commands is None:
            raise ServiceUnavailable(UNREACHABLE)
        return self._commands.execute(*command)

    async def run(self, script: scripts.Script, script_keys: Sequence[str | bytes], *args: object) -> Any:
        """Runs a script, loading it first where Redis does not know it yet."""
        command = script.call(script_keys, *args)
        try:
            return await self.execute(*command)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            await self.execute("SCRIPT", "LOAD", script.text)
            return await self.execute(*command)

    # connections

    async def _connect_commands(self) -> None:
        commands = await PipelinedConnection.open(self.url, self._on_lost)
        commands.pending = self._pending
        try:
            for script in scripts.ALL.values():
                await commands.execute("SCRIPT", "LOAD", script.text)
            await self._open_stream(commands)
        except BaseException:
            commands.close()
            raise
        self._commands = commands

    async def _open_stream(self, commands: PipelinedConnection) -> None:
        """The stream must exist before the first request: replicas do not create it, lest they leave streams
        behind that nobody reads."""
        if not await commands.execute("EXISTS", self.stream):
            # Redis restarted without its file, or our replies have expired: nothing more will come.
            self._fail_pending("Redis has lost the request.")
            await commands.execute("XGROUP", "CREATE", self.stream, keys.GROUP, "$", "MKSTREAM")
        await commands.execute("EXPIRE", self.stream, REPLIES_TTL_S)

    async def _connect_replies(self) -> None:
        self._replies = await PipelinedConnection.open(self.url, self._on_lost)
        self._read_on(self._replies)

    def _on_lost(self, connection: PipelinedConnection) -> None:
        if self._closing:
            return
        if connection is self._commands:
            self._commands = None
            self._spawn(self._reconnect(self._connect_commands))
        elif connection is self._replies:
            self._replies = None
            self._spawn(self._reconnect(self._connect_replies))

    async def _reconnect(self, connect: Any) -> None:
        log.warning("the connection to Redis was lost; connecting again")
        while True:
            try:
                await connect()
            except (RedisUnavailable, ConnectionError, hiredis.ReplyError):
                await asyncio.sleep(RECONNECT_DELAY_S)
            else:
                log.warning("connected to Redis again")
                return

    async def _keep_stream(self) -> None:
        """Renews its time to live; a process that was stopped for longer finds it gone, and makes it anew."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            if self._commands:
                try:
                    await self._open_stream(self._commands)
                except (ConnectionError, hiredis.ReplyError) as error:
                    log.debug("the reply stream %s could not be renewed: %s", self.stream, error)

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # replies

    def _read_on(self, connection: PipelinedConnection) -> None:
        """Waits for more replies; trims what was read now and then, in the same write."""
        if self._untrimmed >= TRIM_EVERY:
            trimmed = connection.execute("XTRIM", self.stream, "MINID", _after(self._last))
            trimmed.add_done_callback(_log_failure)
            self._untrimmed = 0
        read = connection.execute("XREAD", "BLOCK", 0, "STREAMS", self.stream, self._last)
        read.add_done_callback(lambda done: self._on_replies(connection, done))

    def _on_replies(self, connection: PipelinedConnection, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or isinstance(done.exception(), ConnectionError):
            return
        if error := done.exception():
            log.error("replies cannot be read: %s", error)
            self._loop.call_later(RECONNECT_DELAY_S, self._read_on, connection)
            return
        for _, entries in done.result() or ():  # nothing, if an administrator unblocks us
            self._untrimmed += len(entries)
            for entry, fields in entries:
                self._last = entry
                self._resolve(entry, fields)
        self._read_on(connection)

    def _resolve(self, entry: bytes, fields: list[bytes]) -> None:
        try:
            replies = decode_replies(fields)
        except MalformedEntry as error:
            log.error("entry %s of %s is not a reply: %s", entry.decode(), self.stream, error.reason)
            return
        for reply in replies:
            if reply.more or reply.id in self._streams:
                self._resolve_part(reply)
                continue
            waiting = self._pending.pop(reply.id, None)
            if waiting and not waiting.done():
                waiting.set_result(reply)

    def _resolve_part(self, reply: Reply) -> None:
        """Passes parts on in order. One that does not follow comes from a replica that took the place of a
        lost one: what was sent cannot be taken back, so the answer is cut off."""
        waiting = self._pending.get(reply.id)
        if waiting is None:
            return
        state = self._streams.setdefault(reply.id, StreamState(reply.status))
        if not state.follows(reply):
            self.forget(reply.id)
            waiting.set_exception(StreamBroken("The answer was cut off: its replica was lost, or failed."))
        elif reply.more:
            waiting.set_part(reply)
        else:
            self.forget(reply.id)
            waiting.set_result(reply)


def _after(entry: bytes) -> bytes:
    """The smallest entry id after this one."""
    milliseconds, _, number = entry.partition(b"-")
    return b"%s-%d" % (milliseconds, int(number or 0) + 1)


def _log_failure(done: asyncio.Future[Any]) -> None:
    if not done.cancelled() and (error := done.exception()):
        log.debug("ignored: %s", error)
