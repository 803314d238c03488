"""The hot path: predictions are answered inside the HTTP protocol, without an ASGI call for each.

uvicorn parses and keeps the connections; a complete `/predictions` request for a known route goes from the
parser straight into the broker, and its reply straight to the transport. Measured at 64 connections that
halves the gateway's CPU time for each request. Whatever is unusual (unknown routes, pipelined requests,
`Expect`, time-outs, large bodies) takes uvicorn's own way to the ASGI endpoint, which answers the same.
"""

from typing import Any, cast

import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.asgi import JSON_TYPE, NO_CACHE, Headers, content_type, encode_headers, reply_headers
from gateway.predictions import Predictions
from gateway.routes import Route
from marq.errors import ServiceError
from marq.identifiers import new_id
from marq.message import Reply

COMMON = b"".join(b"%s: %s\r\n" % header for header in NO_CACHE)


class Exchange:
    """One prediction in flight: what the broker tells of its reply.

    It stands in for uvicorn's request cycle, so that uvicorn queues pipelined requests behind it, and ends
    the connection after it at a shutdown.
    """

    __slots__ = ("body", "disconnected", "keep_alive", "more_body", "protocol", "request_id", "route")

    def __init__(self, protocol: "PredictionProtocol", route: Route, keep_alive: bool) -> None:
        self.protocol: PredictionProtocol | None = protocol
        self.route, self.keep_alive = route, keep_alive
        self.request_id = new_id()
        self.body: bytes = b""

    @property
    def response_complete(self) -> bool:
        return self.protocol is None

    @property
    def message_event(self) -> "Exchange":
        return self

    def set(self) -> None:
        """Nothing waits for more of the request: it is queued when it is complete."""

    def done(self) -> bool:
        return self.protocol is None

    def set_result(self, reply: Reply) -> None:
        headers = reply_headers(orjson.loads(reply.headers)) if reply.headers else []
        self._respond(reply.status, reply.body, headers)

    def set_exception(self, error: Exception) -> None:
        failure = error if isinstance(error, ServiceError) else ServiceError(str(error))
        self._respond(failure.status, failure.body(), [JSON_TYPE])

    def _respond(self, status: int, body: bytes, headers: Headers) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.respond(self, status, body, headers)


class PredictionProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a short cut for predictions. `predictions` is set once, at start."""

    predictions: Predictions

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._exchange: Exchange | None = None
        self._last_headers: Headers = []
        self._encoded: tuple[bytes, bytes] = b"", b""

    # parser callbacks

    def on_message_begin(self) -> None:
        """The scope is built when it turns out to be needed."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        route = self.predictions.hot_route(self.url)
        if route is None or self._is_unusual():
            self._begin_asgi()
            super().on_headers_complete()
        else:
            self.cycle = self._exchange = Exchange(self, route, self.parser.should_keep_alive())  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        exchange, current = self._exchange, cast(object, self.cycle)
        if exchange is None or exchange is not current:
            super().on_message_complete()
            return
        if self.headers != self._last_headers:  # most clients repeat theirs
            self._last_headers = self.headers
            self._encoded = content_type(self.headers), encode_headers(self.headers)
        try:
            self.predictions.queue(exchange, self.headers, self._encoded, exchange.body)
        except ServiceError as error:
            exchange.set_exception(error)

    def _is_unusual(self) -> bool:
        busy = self.cycle is not None and not self.cycle.response_complete
        return busy or self.expect_100_continue or self._content_length() > HIGH_WATER_LIMIT

    def _content_length(self) -> int:
        """Of a chunked body nothing is known: it counts as large."""
        for name, value in self.headers:
            if name == b"content-length":
                return int(value)
            if name == b"transfer-encoding":
                return HIGH_WATER_LIMIT + 1
        return 0

    def _begin_asgi(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)

    # responses

    def respond(self, exchange: Exchange, status: int, body: bytes, headers: Headers) -> None:
        """Writes the whole response and makes the connection ready for the next request."""
        self._exchange = None
        if self.transport.is_closing():
            return
        parts = [STATUS_LINE[status], b"x-request-id: ", exchange.request_id, b"\r\n", COMMON]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not exchange.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        parts.append(body)
        self.transport.write(b"".join(parts))
        if exchange.keep_alive:
            self.on_response_complete()
        else:
            self.transport.close()

    # connection

    def connection_lost(self, exc: Exception | None) -> None:
        if self._exchange is not None:
            self.predictions.abandon(self._exchange.request_id)
            self._exchange.protocol = None
            self._exchange = None
        super().connection_lost(exc)
