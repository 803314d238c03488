"""The hot path: predictions are answered inside the HTTP protocol, without an ASGI call for each.

uvicorn parses and keeps the connections; a complete `/predictions` request for a known route goes from the
parser straight into the broker, and its reply straight to the transport. Measured at 64 connections that
halves the gateway's CPU time for each request. A large body goes into a file while it arrives. Unusual
requests (unknown routes, pipelined requests, `Expect`, time-outs, large bodies that cannot be files) take
uvicorn's own way to the ASGI endpoint.
"""

import asyncio
import time
from typing import cast

import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from gateway import common_headers
from gateway.asgi import Headers
from gateway.http.exchange import Exchange, Runs, encoded, lines
from gateway.http.guarded import NOWHERE, GuardedProtocol
from gateway.http.header_limits import Limits
from gateway.http.http_1_0 import asks_to_keep_alive
from gateway.inference import deadlines, job_headers
from gateway.inference.predictor import CLIENT_GONE, Predictor
from gateway.metrics.counting import RequestMeter
from marq.errors import ServiceError, StreamBroken
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import MOST_UNREAD
from marq.reply_rules import WITHOUT_BODY, WITHOUT_LENGTH

UNUSUAL = (b"transfer-encoding", b"expect", deadlines.HEADER, job_headers.PRIORITY, job_headers.PREFER)
APART = (b"HEAD", b"OPTIONS")  # HEAD has no body; OPTIONS asks for a model's document
KEEP_ALIVE = b"connection: keep-alive\r\n"  # HTTP/1.0 clients wait for it
LAST_CHUNK = b"0\r\n\r\n"


COMMON = lines(common_headers.COMMON)


class PredictionProtocol(GuardedProtocol):
    """uvicorn's protocol with the fast path for predictions."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        predictor: Predictor,
        meter: RequestMeter,
        runs: Runs | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, limits=limits)
        self.predictor, self.meter, self.runs = predictor, meter, runs
        self._exchange: Exchange | None = None
        self._usual: Headers | None = None  # the last headers that were usual
        self._usual_head = EntryHead()  # for their entries
        self._confirms = b""  # the line of answers to clients that ask for a connection to stay open
        self._size = 0  # the Content-Length that they announce
        self._largest = min(HIGH_WATER_LIMIT, predictor.threshold, predictor.max_request_size)

    # parser callbacks

    def on_message_begin(self) -> None:
        """Prepares no ASGI scope: the fast path needs none."""
        self.url = b""
        self._incomplete = self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps the name as the client wrote it; the ASGI path will have it in lower case."""
        self._incomplete.append((name, value))

    def on_headers_complete(self) -> None:
        method = self.parser.get_method()
        route = self.predictor.hot_route(self.url, self.headers, method)
        exchange: Exchange | None = None
        if route is not None:
            exchange = Exchange(self, route, method)
        elif self.runs is not None:
            exchange = self.runs.exchange(self, self.headers, method)
        if exchange is None or method in APART or self._is_unusual():
            self._begin_asgi()
            super().on_headers_complete()
            return
        if self._size > self._largest:
            exchange.upload = exchange.begin_upload(self.predictor, self._size)
            if exchange.upload is None:
                self._begin_asgi()
                super().on_headers_complete()
                return
        self._incomplete = NOWHERE
        self.cycle = self._exchange = exchange  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is not None and exchange is cast(object, self.cycle) and exchange.protocol is not None:
            if exchange.upload is None:
                exchange.body += body
            else:
                exchange.keep(exchange.upload, body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        exchange, current = self._exchange, cast(object, self.cycle)
        if exchange is None or exchange is not current:
            super().on_message_complete()
            return
        exchange.more_body = False
        try:
            upload = exchange.kept(exchange.upload) if exchange.upload else None
            fields = EntryFields(exchange.body, self._usual_head, upload)
            exchange.begin(self.predictor, fields)
        except ServiceError as error:
            if exchange.upload is not None:
                self.predictor.cancel(exchange.request_id, error.status)
            exchange.set_exception(error)

    def _is_unusual(self) -> bool:
        busy = self.cycle is not None and not self.cycle.response_complete
        return busy or (self.headers != self._usual and not self._learn_headers())

    def _learn_headers(self) -> bool:
        """Whether these headers are usual. Most clients repeat theirs, so equal headers are read once.

        The size of a chunked body is not known: the ASGI path reads it. It also waits for clients that read
        too slowly.
        """
        if self.flow.write_paused or self.limits.fault(self.url, self.headers):
            return False
        size = 0
        for given, value in self.headers:
            name = given.lower()
            if name in UNUSUAL:
                return False
            if name == b"content-length":
                size = int(value)
        self._usual, self._size = self.headers, size
        self._usual_head = self.predictor.entry_head(self.headers, b"")
        self._confirms = KEEP_ALIVE if asks_to_keep_alive(self.headers) else b""
        return True

    def _begin_asgi(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)

    # responses

    def respond(self, exchange: Exchange, status: int, body: bytes, headers: bytes) -> None:
        """Writes the whole response and makes the connection ready for the next request."""
        if not self.transport.is_closing():
            head = self._head(exchange, status, headers)
            if status in WITHOUT_BODY:
                self.transport.write(head + _no_body(status))
            elif len(body) <= HIGH_WATER_LIMIT:
                self.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
            else:  # joining them would cost more than a second write
                self.transport.write(b"%bcontent-length: %d\r\n\r\n" % (head, len(body)))
                self.transport.write(body)
        self._finish(exchange)

    def respond_part(self, exchange: Exchange, part: Reply) -> None:
        """Writes one part of a chunked response. A client that does not read it in time is cut off."""
        if self.transport.is_closing():
            return
        if not exchange.streaming:
            self._begin_stream(exchange, part)
        if exchange.bodiless:
            return
        self.transport.write(_chunk(part.body) if exchange.chunked else part.body)
        if self.transport.get_write_buffer_size() > MOST_UNREAD:
            error = StreamBroken("The client does not read.")
            self.predictor.cancel(exchange.request_id, error.status)
            exchange.set_exception(error)

    def _begin_stream(self, exchange: Exchange, part: Reply) -> None:
        """HTTP/1.0 has no chunks: there the end of the connection is the answer's end. Raises BadReply."""
        exchange.route.backlog.waiting -= 1
        headers = encoded(part.headers) if part.headers else b""
        exchange.bodiless = part.status in WITHOUT_BODY
        exchange.streaming, exchange.chunked = True, self.parser.get_http_version() != "1.0"
        exchange.keep_alive = exchange.keep_alive and (exchange.chunked or exchange.bodiless)
        framing = b"transfer-encoding: chunked\r\n\r\n" if exchange.chunked else b"\r\n"
        if exchange.bodiless:
            framing = _no_body(part.status)
        self.transport.write(self._head(exchange, part.status, headers) + framing)

    def end_stream(self, exchange: Exchange, body: bytes | None) -> None:
        """Writes the last part; None: the answer is cut off, and the connection ends without a last chunk."""
        if body is None:
            exchange.keep_alive = False
        elif not exchange.bodiless and not self.transport.is_closing():
            self.transport.write(_chunk(body) + LAST_CHUNK if exchange.chunked else body)
        self._finish(exchange)

    def _head(self, exchange: Exchange, status: int, headers: bytes) -> bytes:
        exchange.status = status
        connection = self._confirms if exchange.keep_alive else b"connection: close\r\n"
        return b"%bx-request-id: %b\r\n%b%b%b" % (
            STATUS_LINE[status], exchange.request_id, COMMON, headers, connection,
        )  # fmt: skip

    def _finish(self, exchange: Exchange) -> None:
        self._note(exchange, exchange.status or CLIENT_GONE, time.monotonic() - exchange.began)
        self._exchange = None
        if self.transport.is_closing():
            return
        if exchange.keep_alive:
            self.on_response_complete()
        else:
            self.transport.close()

    def _note(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Counts an answer."""
        self.meter.answered(exchange.route if exchange.is_prediction else None, status, seconds)

    # connection

    def pause_writing(self) -> None:
        """The client does not read: its next request is not a usual one."""
        super().pause_writing()
        self._usual = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._exchange is not None:
            self._exchange.cancel(self.predictor)
            self._note(self._exchange, CLIENT_GONE, time.monotonic() - self._exchange.began)
            self._exchange.protocol = None
            self._exchange = None
        super().connection_lost(exc)


def _no_body(status: int) -> bytes:
    """The end of the head of an answer whose status allows no body."""
    return b"\r\n" if status in WITHOUT_LENGTH else b"content-length: 0\r\n\r\n"


def _chunk(body: bytes) -> bytes:
    """An empty one would end the response."""
    return b"%x\r\n%s\r\n" % (len(body), body) if body else b""
