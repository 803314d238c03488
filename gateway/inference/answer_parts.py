"""The parts of an answer: the wait for the first one, and the chunks of a streamed one."""

import asyncio
import logging

from starlette.types import Receive, Send

from gateway import common_headers
from marq.errors import DeadlineExceeded, ServiceError, ServiceUnavailable
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import ReplyStream
from marq.reply_rules import WITHOUT_BODY

log = logging.getLogger(__name__)


async def first_part(stream: ReplyStream, timeout_s: float | None) -> Reply:
    """Raises DeadlineExceeded."""
    if timeout_s is None:
        return await stream.next()
    try:
        async with asyncio.timeout(timeout_s):
            return await stream.next()
    except TimeoutError:
        text = f"No answer within {timeout_s:g} s (clientTimeoutInMills, X-Request-Timeout)."
        raise DeadlineExceeded(text) from None


class ClientGone(ServiceUnavailable):
    """Raised where the client takes no answer any more."""


async def watch(receive: Receive, stream: ReplyStream) -> None:
    """Ends the wait for an answer with ClientGone when the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.set_exception(ClientGone("The client has gone."))


async def send_parts(
    send: Send, part: Reply, headers: list[tuple[bytes, bytes]], stream: ReplyStream, request_id: bytes
) -> None:
    """One chunk for each part.

    An answer that is cut off has no last chunk: the server then ends the connection, and the client notices.
    """
    own = [*common_headers.of_answer(request_id), *headers]
    bodiless = part.status in WITHOUT_BODY
    await send({"type": "http.response.start", "status": part.status, "headers": own})
    while part.more:
        await send({"type": "http.response.body", "body": b"" if bodiless else part.body, "more_body": True})
        try:
            part = await stream.next()
        except ServiceError as error:
            log.warning("request %s: %s", request_id.decode(), error.message)
            return
    await send({"type": "http.response.body", "body": b"" if bodiless else part.body})
