"""A gateway's parts for predictions without sockets and without Redis: bytes in, bytes out."""

import asyncio
import re
import socket
from collections.abc import Sequence

import uvicorn
from thread_replica import make_spec
from uvicorn.server import ServerState

from gateway.auth.tokens import Tokens
from gateway.http.protocols import InferenceProtocol
from gateway.inference.request_hooks import Hook, ObservedPredictor
from gateway.metrics.counting import RequestMeter
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq.connections.pipelined import PipelinedConnection
from marq.jobs.jobs import Jobs
from marq.queue.broker import Broker
from marq.queue.replies.entries import Reply
from marq.queue.replies.reader import ReplyReader
from marq.settings.fields import Settings

UNUSED = "redis://127.0.0.1:1/0"
ID = re.compile(rb"\$2\r\nid\r\n\$36\r\n([0-9a-f-]{36})\r\n")


class Transport(asyncio.Transport):
    """Keeps what was written; `unread`: the bytes that its client has not read yet."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed, self.unread = b"", False, 0
        self.ended = False  # whether the client has got the end of the answers
        self._socket = socket.socket(socket.AF_UNIX)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._socket if name == "socket" else default

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class GatewayInProcess:
    """The model `m`, whose predictions are answered with `reply`; other requests end in `app`."""

    def __init__(self, hooks: Sequence[Hook] = (), required: bool = False, limit: int = 1_000_000) -> None:
        self.broker, self.routes = Broker(UNUSED, "test"), Routes(Settings(redis_url=UNUSED))
        spec = make_spec("m", min_workers=1, job_queue_size=3)
        self.route = Route(spec, False, self.routes.backlogs.of(spec), "")
        self.routes.urls[b"/predictions/m"] = self.route
        self.routes._by_name["m"] = {None: self.route, "1.0": self.route}
        self.redis = Transport()
        connection = PipelinedConnection(lambda _: None, self.broker._on_queued)
        connection.connection_made(self.redis)
        self.broker._commands = connection
        self.broker._loop = asyncio.get_running_loop()
        parts = self.routes, self.broker, Jobs(self.broker), Tokens(required), limit
        self.predictor, self.meter = ObservedPredictor(*parts, hooks), RequestMeter()
        self.config = uvicorn.Config(self.app, lifespan="off", interface="asgi3", access_log=False)
        self.config.load()
        self.asked: list[tuple[str, str, bytes]] = []  # of `app`

    def connect(
        self, protocol_class: type[InferenceProtocol] = InferenceProtocol, **options: object
    ) -> tuple[InferenceProtocol, Transport]:
        options |= {"predictor": self.predictor, "meter": self.meter}
        protocol = protocol_class(self.config, ServerState(), {}, None, **options)
        transport = Transport()
        protocol.connection_made(transport)
        return protocol, transport

    async def app(self, scope, receive, send) -> None:
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        self.asked.append((scope["method"], scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"asgi"})

    async def queued(self) -> list[bytes]:
        """The ids of the requests that were sent to Redis so far."""
        await asyncio.sleep(0)
        return ID.findall(self.redis.written)

    def reply(
        self, request_id: bytes, body: bytes = b"OK", status: int = 200, more: int = 0, headers=b""
    ) -> None:
        self.broker.pending.reply(Reply(request_id, status, body, headers, more))

    def deliver(self, request_id: bytes, body: bytes, more: int = 0, headers=b"") -> None:
        """Passes a reply on as the reader of the stream does."""
        reply = Reply(request_id, 200, body, headers, more)
        ReplyReader("replies", self.broker.pending).resolve(b"1-0", reply.fields())

    def counted(self) -> dict[int, int]:
        """How many predictions were answered with each status."""
        return {what.status: sum(answers.counts) for what, answers in self.meter.take()}


def request(
    body: bytes = b"x",
    *headers: str,
    path: str = "/predictions/m",
    method: str = "POST",
    version: str = "1.1",
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
