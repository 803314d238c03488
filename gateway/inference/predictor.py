"""`/predictions/{model}[/{version}]`: a raw ASGI endpoint in front of the FastAPI app.

Most requests never come here: `gateway.http.fast_path` hands them to `Predictions.queue` itself.
"""

from typing import Protocol

from gateway.asgi import (
    Headers,
    Receive,
    Scope,
    Send,
    content_type,
    encode_headers,
    read_body,
    respond_error,
    too_large,
)
from gateway.auth import Tokens
from gateway.inference.answer import answer
from gateway.routing.routes import Route, Routes
from marq.errors import ServiceError
from marq.queue.broker import Broker
from marq.queue.ids import new_id
from marq.queue.pending import Waiting
from marq.registry.tokens import INFERENCE

PREFIX = "/predictions/"


class Exchange(Waiting, Protocol):
    """A request whose reply is awaited by something else than a coroutine."""

    request_id: bytes
    route: Route


class Predictions:
    """Queues the request as it came, waits for the reply, sends it on. Any method, any body."""

    def __init__(self, routes: Routes, broker: Broker, tokens: Tokens, max_request_size: int) -> None:
        self._routes, self._broker, self._tokens = routes, broker, tokens
        self._max_request_size = max_request_size

    def hot_route(self, url: bytes) -> Route | None:
        """The route of a URL that needs no further thought, else None."""
        route = self._routes.urls.get(url)
        return None if route is None or route.client_timeout_ms else route

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: what is still queued is not run."""
        self._broker.withdraw(exchange.request_id)

    def queue(self, exchange: Exchange, headers: Headers, encoded: tuple[bytes, bytes], body: bytes) -> None:
        """Queues a hot request; `encoded`: its content type, its headers as JSON. Raises ServiceError."""
        if self._tokens.required:
            self._tokens.check(INFERENCE, headers)
        exchange.route.check()
        if len(body) > self._max_request_size:
            raise too_large(len(body), self._max_request_size)
        exchange.route.backlog.admit(len(body))
        fields = (b"type", encoded[0], b"headers", encoded[1], b"path", b"", b"body", body)
        try:
            self._broker.queue(exchange.route.lane, exchange.request_id, fields, exchange)
        except ServiceError:
            exchange.route.backlog.forgo(len(body))
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for every other request, as an ASGI endpoint."""
        request_id = new_id()
        try:
            route, fields = await self._read(scope, receive)
            await answer(scope, receive, send, self._broker, route, request_id, fields)
        except ServiceError as error:
            await respond_error(send, error, request_id)

    async def _read(self, scope: Scope, receive: Receive) -> tuple[Route, tuple[bytes, ...]]:
        headers = scope["headers"]
        if self._tokens.required:
            self._tokens.check(INFERENCE, headers)
        route, url_path = self._routes.find_path(scope["path"])
        route.check()
        body = await read_body(scope, receive, self._max_request_size)
        return route, (
            b"type", content_type(headers), b"headers", encode_headers(headers),
            b"path", url_path, b"body", body,
        )  # fmt: skip
