"""`/predictions/{model}[/{version}]`: a raw ASGI endpoint in front of the FastAPI app.

Most requests never come here: `gateway.protocol` hands them to `Predictions.queue` itself.
"""

import asyncio
import time
from typing import Protocol

import orjson

from gateway.asgi import (
    Headers,
    Receive,
    Scope,
    Send,
    content_type,
    encode_headers,
    read_body,
    reply_headers,
    respond,
    respond_error,
    too_large,
)
from gateway.routes import Route, Routes
from gateway.tokens import INFERENCE, Tokens
from marq.broker import Broker
from marq.errors import DeadlineExceeded, ServiceError
from marq.identifiers import new_id
from marq.message import Reply
from marq.pipelined import Waiting

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
        self.abandon = broker.forget

    def hot_route(self, url: bytes) -> Route | None:
        """The route of a URL that needs no further thought, else None."""
        route = self._routes.urls.get(url)
        return None if route is None or route.client_timeout_ms else route

    def queue(self, exchange: Exchange, headers: Headers, encoded: tuple[bytes, bytes], body: bytes) -> None:
        """Queues a hot request; `encoded`: its content type, its headers as JSON. Raises ServiceError."""
        if self._tokens.required:
            self._tokens.check(INFERENCE, headers)
        exchange.route.check()
        if len(body) > self._max_request_size:
            raise too_large(len(body), self._max_request_size)
        fields = (b"type", encoded[0], b"headers", encoded[1], b"path", b"", b"body", body)
        self._broker.queue(exchange.route.lane, exchange.request_id, fields, exchange)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for every other request, as an ASGI endpoint."""
        request_id = new_id()
        try:
            reply = await self._predict(scope, receive, request_id)
        except ServiceError as error:
            await respond_error(send, error, request_id)
        else:
            headers = reply_headers(orjson.loads(reply.headers)) if reply.headers else ()
            await respond(send, reply.status, reply.body, headers, request_id)

    async def _predict(self, scope: Scope, receive: Receive, request_id: bytes) -> Reply:
        headers = scope["headers"]
        if self._tokens.required:
            self._tokens.check(INFERENCE, headers)
        route, url_path = self._routes.find_path(scope["path"])
        route.check()
        body = await read_body(scope, receive, self._max_request_size)
        fields = (
            b"type", content_type(headers), b"headers", encode_headers(headers),
            b"path", url_path, b"body", body,
        )  # fmt: skip
        try:
            return await self._await_reply(route, request_id, fields)
        finally:
            self._broker.forget(request_id)

    async def _await_reply(self, route: Route, request_id: bytes, fields: tuple[bytes, ...]) -> Reply:
        """The reply, if it comes before the model's `clientTimeoutInMills`. Raises DeadlineExceeded."""
        timeout_ms = route.client_timeout_ms
        if not timeout_ms:
            return await self._broker.predict(route.lane, request_id, fields)
        deadline = b"%d" % (time.time() * 1000 + timeout_ms)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._broker.predict(route.lane, request_id, (b"deadline", deadline, *fields))
        except TimeoutError:
            raise DeadlineExceeded(f"No answer within clientTimeoutInMills ({timeout_ms} ms).") from None
