"""From a queued prediction to its HTTP response, whole or streamed: for all ASGI routes that predict."""

import asyncio
import logging

import orjson

from gateway.asgi import NO_CACHE, Receive, Scope, Send, reply_headers, respond
from gateway.inference import deadlines
from gateway.routing.routes import Route
from marq.errors import DeadlineExceeded, ServiceError, ServiceUnavailable
from marq.queue.broker import Broker
from marq.queue.entries import Reply
from marq.queue.reply_stream import ReplyStream

log = logging.getLogger(__name__)


async def answer(
    scope: Scope,
    receive: Receive,
    send: Send,
    broker: Broker,
    route: Route,
    request_id: bytes,
    fields: tuple[bytes, ...],
) -> None:
    """Queues a prediction and sends its answer as it comes. Raises ServiceError where there is none.

    The request's body must have been received. A client that goes away takes back what is still queued.
    """
    watching: asyncio.Task[None] | None = None
    try:
        timeout_s = deadlines.timeout_s(scope["headers"], route.client_timeout_ms)
        fields = (*deadlines.fields(timeout_s), *fields)
        stream = _queue(broker, route, request_id, fields)
        watching = asyncio.create_task(_watch(receive, stream))
        first = await _first_part(stream, timeout_s)
        route.backlog.waiting -= 1
        headers = reply_headers(orjson.loads(first.headers)) if first.headers else []
        if first.more:
            await _stream(send, first, headers, stream, request_id)
        else:
            await respond(send, first.status, first.body, headers, request_id)
    finally:
        if watching:
            watching.cancel()
        broker.withdraw(request_id)


def _queue(broker: Broker, route: Route, request_id: bytes, fields: tuple[bytes, ...]) -> ReplyStream:
    size = sum(map(len, fields))
    route.backlog.admit(size)
    try:
        return broker.predict_in_parts(route.lane, request_id, fields)
    except ServiceError:
        route.backlog.forgo(size)
        raise


async def _first_part(stream: ReplyStream, timeout_s: float | None) -> Reply:
    """Raises DeadlineExceeded."""
    try:
        async with asyncio.timeout(timeout_s):
            return await stream.next()
    except TimeoutError:
        text = f"No answer within {timeout_s:g} s (clientTimeoutInMills, X-Request-Timeout)."
        raise DeadlineExceeded(text) from None


async def _watch(receive: Receive, stream: ReplyStream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.set_exception(ServiceUnavailable("The client has gone."))


async def _stream(
    send: Send, part: Reply, headers: list[tuple[bytes, bytes]], stream: ReplyStream, request_id: bytes
) -> None:
    """One chunk for each part.

    An answer that is cut off has no last chunk: the server then ends the connection, and the client notices.
    """
    own = [(b"x-request-id", request_id), *NO_CACHE, *headers]
    await send({"type": "http.response.start", "status": part.status, "headers": own})
    while part.more:
        await send({"type": "http.response.body", "body": part.body, "more_body": True})
        try:
            part = await stream.next()
        except ServiceError as error:
            log.warning("request %s: %s", request_id.decode(), error.message)
            return
    await send({"type": "http.response.body", "body": part.body})
