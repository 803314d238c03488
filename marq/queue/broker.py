"""The gateway's and the clients' way to the queue: the hot path of every prediction.

A prediction costs one packed XADD and a dictionary entry here, nothing else.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence

import hiredis

from marq import keys
from marq.connections.commands import Reply as RedisReply
from marq.connections.pipelined import PipelinedConnection, reconnect
from marq.connections.scripts import Script
from marq.connections.urls import Command
from marq.errors import QueueUnavailable, ServiceUnavailable
from marq.payloads import body_keys
from marq.payloads.body_keys import MOST_INLINE, BodyKeys
from marq.payloads.folder import Folder
from marq.payloads.place import Place
from marq.queue.admitting import Admission, admit
from marq.queue.entries import EntryFields
from marq.queue.lost_requests import LOST, LostRequests
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import ReplyStream, WholeReply
from marq.queue.replies.pending import PendingRequests, Waiting
from marq.queue.replies.reader import ReplyReader
from marq.queue.withdrawals import Withdrawals

log = logging.getLogger(__name__)

REPLIES_TTL_S = body_keys.TTL_S  # a reply stream without a reader expires after this time, as its bodies do
KEEP_EVERY_S = REPLIES_TTL_S / 3
# XADD as `pack` packs it; that would take most of the time that a prediction costs here
ADD = b"*%d\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$1\r\n*\r\n$2\r\nid\r\n$%d\r\n%b\r\n%b%b$4\r\nbody\r\n$%d\r\n%b\r\n"
ADD_REF = ADD.replace(b"$4\r\nbody", b"$8\r\nbody_ref")
STOPPING = "The server is stopping."
UNOBSERVED = b""  # the tag of a command whose reply no request waits for
UNREACHABLE = "Redis is not reachable at the moment. Try again later."


class Broker:
    """Queues requests and resolves their replies, over one connection for each direction.

    Raises QueueUnavailable where a request cannot be queued. Lost connections are opened again in the
    background. With a `place`, large bodies and answers are files in `folder`; other large bodies are keys.
    """

    def __init__(self, url: str, name: str = "", place: Place | None = None) -> None:
        self.url = url
        self.stream = keys.replies(name or f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}")
        stream = self.stream.encode()
        self._reply_field = b"$7\r\nreplies\r\n$%d\r\n%b\r\n" % (len(stream), stream)
        self.folder = Folder.opened(place, stream) if place else None
        self.body_keys = BodyKeys(self._send)
        self.pending = PendingRequests(self.folder, self.body_keys)
        self._reader = ReplyReader(self.stream, self.pending, self.folder)
        self._lost = LostRequests()
        self._commands: PipelinedConnection | None = None
        self._replies: PipelinedConnection | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._withdrawals = Withdrawals(self.pending, self.run)
        self._closing = False

    async def start(self) -> None:
        """Connects. Raises RedisUnavailable."""
        self._loop = asyncio.get_running_loop()
        await self._connect_commands()
        await self._connect_replies()
        self._spawn(self._keep_stream())

    async def stop(self) -> None:
        """Ends. Pending requests are taken out of the queue, because their replies would not be read."""
        self.give_up(QueueUnavailable(STOPPING))
        if self._commands:
            await self._withdrawals.finish()
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
        self.pending.fail_all(QueueUnavailable(STOPPING))
        if self.folder:
            self.folder.close()

    @property
    def in_flight(self) -> int:
        """The number of predictions whose reply is awaited."""
        return len(self.pending)

    @property
    def last_reply(self) -> bytes:
        """The newest entry that was read from the reply stream."""
        return self._reader.last

    def predict(self, lane: bytes, request_id: bytes, fields: EntryFields) -> asyncio.Future[Reply]:
        """Queues one prediction; the future is its whole reply, also where that comes in parts."""
        answer = WholeReply(loop=self._loop)
        self.queue(lane, request_id, fields, answer)
        return answer

    def predict_in_parts(self, lane: bytes, request_id: bytes, fields: EntryFields) -> ReplyStream:
        """The same, for a reader that takes the parts as they come."""
        stream = ReplyStream()
        self.queue(lane, request_id, fields, stream)
        return stream

    def queue(self, lane: bytes, request_id: bytes, fields: EntryFields, waiting: Waiting) -> None:
        """The same for any object that waits. Raises QueueUnavailable while Redis cannot be reached."""
        if self._commands is None:
            raise QueueUnavailable(UNREACHABLE)
        self.pending.add(request_id, lane, waiting)
        head, body, form, ahead = fields.head, fields.body, ADD, b""
        if fields.file is not None:
            body, form = fields.file.ref, ADD_REF
        elif len(body) > MOST_INLINE and body_keys.becomes_key(request_id, body):
            ahead, body, form = body, self.body_keys.add(lane, request_id, len(body)), ADD_REF
        packed = form % (
            9 + len(head.flat), len(lane), lane, len(request_id), request_id, self._reply_field,
            head.packed, len(body), body,
        )  # fmt: skip
        if ahead:
            packed = self.body_keys.ahead(request_id, ahead, packed)
            self._commands.expect(UNOBSERVED)
        self._commands.send(packed, request_id)

    def queue_if_admitted(
        self, admission: Admission, lane: bytes, request_id: bytes, fields: EntryFields, waiting: Waiting,
        on_refused: Callable[[], None],
    ) -> None:  # fmt: skip
        """The same where a script decides whether the request is queued, and in which lane."""
        if self._commands is None:
            raise QueueUnavailable(UNREACHABLE)
        self.pending.add(request_id, lane, waiting)
        name, body = fields.body_field
        if fields.file is None and body_keys.becomes_key(request_id, body):
            ref = self.body_keys.add(lane, request_id, len(body))
            self._send(self.body_keys.ahead(request_id, body))
            name, body = b"body_ref", ref
        entry = (b"id", request_id, b"replies", self.stream.encode(), *fields.head.flat, name, body)
        call = admission.call(lane, fields, entry)
        self._spawn(admit(admission, call, self._commands, self.pending, request_id, fields, on_refused))

    def forget(self, request_id: bytes) -> None:
        """Ignores the reply when it comes."""
        self.pending.forget(request_id)

    def withdraw(self, request_id: bytes) -> None:
        """Cancels a request: it leaves its lane, its answer is ignored, and a streamed answer stops."""
        self._withdrawals.withdraw(request_id)

    def refuse(self, lane: bytes, error: ServiceUnavailable) -> None:
        """Ends all pending requests of a lane with the error, and takes their entries out of the queue."""
        self._withdrawals.refuse(self.pending.of(lane), error)

    def give_up(self, error: ServiceUnavailable) -> None:
        """Does the same for the pending requests of all lanes."""
        self._withdrawals.refuse(self.pending.all(), error)

    def _on_queued(self, request_id: bytes, reply: object) -> None:
        """Handles the reply to the XADD of a request, or the loss of the connection."""
        if isinstance(reply, bytes):
            self.pending.locate(request_id, reply)
        elif isinstance(reply, ConnectionError):
            self.pending.fail(request_id, reply)
        else:
            self.pending.fail(request_id, QueueUnavailable(f"Redis refused the request: {reply}"))

    def execute(self, *command: object) -> asyncio.Future[RedisReply]:
        """The raw reply of any command. Raises hiredis.ReplyError, ConnectionError or QueueUnavailable."""
        if self._commands is None:
            raise QueueUnavailable(UNREACHABLE)
        return self._commands.execute(*command)

    async def run(self, script: Script, script_keys: Sequence[str | bytes], *args: object) -> RedisReply:
        """A script's reply. Raises as `execute`."""
        if self._commands is None:
            raise QueueUnavailable(UNREACHABLE)
        return await self._commands.run(script.call(script_keys, *args))

    async def run_all(self, calls: Sequence[Command]) -> list[RedisReply]:
        """The replies of many scripts, pipelined. Raises as `execute`, when all have been answered."""
        if self._commands is None:
            raise QueueUnavailable(UNREACHABLE)
        replies = await self._commands.run_all(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _send(self, packed: bytes) -> None:
        """Sends a command whose reply is ignored, if Redis is there."""
        if self._commands is not None:
            self._commands.send(packed, UNOBSERVED)

    # connections

    async def _connect_commands(self) -> None:
        commands = await PipelinedConnection.open(self.url, self._on_lost, self._on_queued)
        try:
            await self._open_stream(commands)
        except BaseException:
            commands.close()
            raise
        self._commands = commands

    async def _open_stream(self, commands: PipelinedConnection) -> None:
        """Creates the reply stream before the first request: replicas do not, so that they leave no streams
        without readers."""
        if not await commands.execute("EXISTS", self.stream):
            # Redis restarted without its file, or the stream has expired: the pending replies are lost.
            self.pending.fail_all(QueueUnavailable(LOST))
            await commands.execute("XGROUP", "CREATE", self.stream, keys.GROUP, "$", "MKSTREAM")
            self._read_from_start()
        for renewal in self.body_keys.renewals():
            commands.send(renewal, UNOBSERVED)
        await commands.execute("EXPIRE", self.stream, REPLIES_TTL_S)

    async def _connect_replies(self) -> None:
        self._replies = await PipelinedConnection.open(self.url, self._on_lost)
        self._reader.read_on(self._replies)

    def _read_from_start(self) -> None:
        """Reads from the first entry, over a new connection: the clock of another server may be behind."""
        self._reader.last = b"0"
        if self._replies:
            self._replies.close()

    def _on_lost(self, connection: PipelinedConnection) -> None:
        if self._closing:
            return
        if connection is self._commands:
            self._commands = None
            self._spawn(reconnect(self._connect_commands))
        elif connection is self._replies:
            self._replies = None
            self._spawn(reconnect(self._connect_replies))

    async def _keep_stream(self) -> None:
        """Renews the time to live of the reply stream and of bodies, creates the stream again if it has
        expired, and looks for lost requests."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            try:
                if self.folder:
                    self.folder.tidy(self.pending.__contains__)
                if self._commands:
                    await self._open_stream(self._commands)
                    await self._lost.look(self)
            except (ConnectionError, hiredis.ReplyError, QueueUnavailable) as error:
                log.debug("the reply stream %s could not be renewed: %s", self.stream, error)

    def _spawn(self, coroutine: Coroutine[object, object, object]) -> asyncio.Task[object]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
