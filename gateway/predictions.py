"""`/predictions/{model}[/{version}]`: the hot path, a raw ASGI endpoint in front of the FastAPI app."""

import asyncio
import time

import orjson

from gateway.asgi import (
    Receive,
    Scope,
    Send,
    content_type,
    encode_headers,
    read_body,
    reply_headers,
    respond,
    respond_error,
)
from gateway.routes import Routes
from gateway.tokens import INFERENCE, Tokens
from marq.broker import Broker
from marq.errors import DeadlineExceeded, ServiceError
from marq.identifiers import new_id
from marq.message import Reply

PREFIX = "/predictions/"


class Predictions:
    """Queues the request as it came, waits for the reply, sends it on. Any method, any body."""

    def __init__(self, routes: Routes, broker: Broker, tokens: Tokens, max_request_size: int) -> None:
        self._routes, self._broker, self._tokens = routes, broker, tokens
        self._max_request_size = max_request_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id()
        try:
            reply = await self._predict(scope, receive, request_id)
        except ServiceError as error:
            await respond_error(send, error, request_id)
        else:
            headers = reply_headers(orjson.loads(reply.headers)) if reply.headers else ()
            await respond(send, reply.status, reply.body, headers, request_id)

    async def _predict(self, scope: Scope, receive: Receive, request_id: bytes) -> Reply:
        headers, url_path = scope["headers"], b""
        if self._tokens.required:
            self._tokens.check(INFERENCE, headers)
        route = self._routes.paths.get(scope["path"])
        if route is None:
            route, url_path = self._routes.find_path(scope["path"])
        route.check()
        body = await read_body(scope, receive, self._max_request_size)
        fields = (
            b"type", content_type(headers), b"headers", encode_headers(headers),
            b"path", url_path, b"body", body,
        )  # fmt: skip
        if route.client_timeout_ms:
            return await self._within(route.client_timeout_ms, route.lane, request_id, fields)
        return await self._broker.predict(route.lane, request_id, fields)

    async def _within(
        self, timeout_ms: int, lane: bytes, request_id: bytes, fields: tuple[bytes, ...]
    ) -> Reply:
        """The reply, if it comes before the model's `clientTimeoutInMills`. Raises DeadlineExceeded."""
        deadline = b"%d" % (time.time() * 1000 + timeout_ms)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._broker.predict(lane, request_id, (b"deadline", deadline, *fields))
        except TimeoutError:
            raise DeadlineExceeded(f"No answer within clientTimeoutInMills ({timeout_ms} ms).") from None
        finally:
            self._broker.forget(request_id)
