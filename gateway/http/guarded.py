"""The HTTP protocol that bounds the memory and the time that a client's bytes can take.

uvicorn's own has no limits: headers of any size are kept, and one long header is copied with each piece that
arrives. Usual requests pay next to nothing for the guard: it counts bytes only while headers or a chunked
body are incomplete.
"""

import asyncio
import logging
from collections import deque
from typing import NoReturn, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.http import connection_limit
from gateway.http.header_limits import MOST_PIPELINED, Limits
from gateway.http.refusal import Deaf, refuse, refuse_sender
from marq.errors import BadRequest, QueueUnavailable, RequestTooLarge, ServiceError, ServiceUnavailable
from marq.queue.broker import STOPPING

log = logging.getLogger(__name__)

Header = tuple[bytes, bytes]
NOWHERE: deque[Header] = deque(maxlen=0)  # keeps nothing: where trailers go
TRANSFER = b"transfer-encoding"
PER_CHUNK = 16  # bytes of a chunk's size and line ends, at most


class GuardedProtocol(HttpToolsProtocol):
    """Refuses requests beyond `limits`, drops trailers, and ends connections that pipeline without end."""

    _is_chunked = _is_fresh = False  # whether a chunked body is incomplete; whether it began in these bytes
    _received = 0  # bytes of the incomplete headers, or of the chunked body without its content
    _refusal: ServiceError | None = None
    body_bytes = 0  # of all bodies of the connection that the application reads

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.limits = limits or Limits()
        self._incomplete: list[Header] | deque[Header] = NOWHERE  # the headers while they are incomplete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if connection_limit.is_reached(transport, len(self.connections), self.limits.connections):
            refuse(transport, ServiceUnavailable("Too many connections are open."))
        elif self.limits.leaving.has_begun:  # its TLS handshake has just ended, for example
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self.limits.unread.remove(self.transport)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends the connection after its answer, or, between two requests, without a reset."""
        cycle = cast(RequestResponseCycle | None, self.cycle)
        if isinstance(self.parser, Deaf):
            return  # it is refused, and ends soon
        if self.transport.is_closing() or (cycle is not None and not cycle.response_complete):
            super().shutdown()
            return
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.limits.unread.remove(self.transport)
        closing = self.limits.leaving.take_over(self.transport, has_asked=cycle is not None)
        if self._incomplete is not NOWHERE:
            closing.refuse()
        elif cycle is not None and cycle.more_body:
            closing.ignore()

    def give_up(self) -> None:
        """Refuses the request in flight, unless its answer has begun: the gateway waits no longer."""
        cycle = cast(RequestResponseCycle | None, self.cycle)
        if cycle is None or cycle.response_complete or cycle.response_started or self.transport.is_closing():
            return
        self._end_with(QueueUnavailable(STOPPING))
        cycle.disconnected = True
        cycle.message_event.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.limits.unread.add(self.transport)

    def resume_writing(self) -> None:
        self.limits.unread.remove(self.transport)
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        head = self._incomplete
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)
            return
        except httptools.HttpParserUpgrade:
            return  # the request is answered; other protocols are not spoken here
        if self._incomplete is not NOWHERE or self._is_chunked:
            self._count(head, len(data))

    # parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._incomplete = self.headers

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incomplete is not NOWHERE:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if fault := self.limits.fault(self.url, self.headers):
            self._refuse(fault)
        if len(self.pipeline) >= MOST_PIPELINED:
            self._refuse(BadRequest("Too many pipelined requests."))
        self._is_chunked = self._is_fresh = any(name.lower() == TRANSFER for name, _ in self.headers)
        super().on_headers_complete()
        self._incomplete = NOWHERE

    def on_chunk_header(self) -> None:
        self._received -= PER_CHUNK

    def on_body(self, body: bytes) -> None:
        self._received -= len(body)
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_chunked = False
        super().on_message_complete()

    # refusals

    def reject(self, error: ServiceError) -> None:
        """Takes no more requests of the connection. The error is the answer, unless another is due first."""
        cycle = cast(RequestResponseCycle | None, self.cycle)
        busy = cycle is not None and not cycle.response_complete
        in_body = self._incomplete is NOWHERE and cycle is not None and cycle.more_body
        if cycle and busy and not in_body:
            cycle.keep_alive = False  # the connection ends after its answer
            return
        if cycle and in_body and (self.pipeline or not busy or cycle.response_started):
            self._hear_no_more()
            self.transport.close()
            return
        self._end_with(error)
        if cycle and busy:
            cycle.disconnected = True
            cycle.message_event.set()

    def _end_with(self, error: ServiceError) -> None:
        self._hear_no_more()
        refuse_sender(self.transport, error, self.loop)

    def _hear_no_more(self) -> None:
        self.parser = cast(httptools.HttpRequestParser, Deaf())
        self._incomplete, self._is_chunked, self.headers = NOWHERE, False, []
        self.flow.resume_reading()  # what is not read would reset the connection

    def _refuse(self, error: ServiceError) -> NoReturn:
        """Ends the parser's call."""
        self._refusal = error
        raise error

    def _fail(self, error: httptools.HttpParserError) -> None:
        if isinstance(error, httptools.HttpParserCallbackError) and self._incomplete is NOWHERE:
            log.error("a request could not be begun", exc_info=error)
            self.transport.close()
        else:
            self.reject(self._refusal or BadRequest("Invalid HTTP message."))

    def _count(self, head: object, size: int) -> None:
        """Counts bytes that a client has sent, but for those among which the headers or the body began."""
        if self._is_chunked:
            self._received = 0 if self._is_fresh else max(0, self._received + size)
            self._is_fresh = False
            if self._received > self.limits.headers:
                self.reject(RequestTooLarge("Trailers and chunk extensions exceed max_header_size."))
            return
        self._received = self._received + size if head is self._incomplete else 0
        if fault := self.limits.fault_so_far(self.url, len(self._incomplete), self._received):
            self.reject(fault)
