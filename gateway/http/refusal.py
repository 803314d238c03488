"""Answers to bytes that did not become a request; the connection is closed after them."""

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway import common_headers
from gateway.asgi import error_headers
from marq.errors import ServiceError
from marq.queue.ids import new_id

LINGER_S = 2.0


class Deaf:
    """Takes the place of a parser whose connection is about to be closed."""

    def feed_data(self, data: bytes) -> None:
        """Ignores the bytes that the client still sends."""


def refuse(transport: asyncio.Transport, error: ServiceError) -> None:
    """Answers, and closes the connection."""
    transport.write(_answer(error))
    transport.close()


def refuse_sender(transport: asyncio.Transport, error: ServiceError, loop: asyncio.AbstractEventLoop) -> None:
    """Answers a client that is still sending, and closes the connection a little later.

    The kernel throws an answer away where a connection is closed whose bytes have not been read.
    """
    transport.write(_answer(error))
    linger(transport, loop)


def linger(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Closes the connection of a client that has its answer, and may still be sending, a little later."""
    if transport.can_write_eof():
        transport.write_eof()
    loop.call_later(LINGER_S, transport.close)


def _answer(error: ServiceError) -> bytes:
    body = error.body()
    headers = [
        *common_headers.of_answer(new_id()), *error_headers(error),
        (b"connection", b"close"), (b"content-length", b"%d" % len(body)),
    ]  # fmt: skip
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"".join((STATUS_LINE[error.status], lines, b"\r\n", body))
