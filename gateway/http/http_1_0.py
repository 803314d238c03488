"""Answers to HTTP/1.0 clients: no chunks, and a connection that stays open only for those that asked for it.

uvicorn's own answers would be chunked and always end the connection. `ab -k` is such a client.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marq.errors import StreamBroken
from marq.queue.replies.parts import MOST_UNREAD

KEEP_ALIVE = (b"connection", b"keep-alive")


class Http10:
    """An application whose answers to HTTP/1.0 have a length; those that are streamed are collected first.

    Sending raises StreamBroken where a streamed answer is larger than the limit of a collected one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["http_version"] == "1.0":
            send = _Answer(send, asks_to_keep_alive(scope["headers"])).send
        await self._app(scope, receive, send)


class _Answer:
    def __init__(self, send: Send, keeps_alive: bool) -> None:
        self._send, self._keeps_alive = send, keeps_alive
        self._start: Message = {}
        self._parts: list[bytes] = []
        self._size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        part = message.get("body", b"")
        self._parts.append(part)
        self._size += len(part)
        if message.get("more_body"):
            self._check()
            return
        body = b"".join(self._parts)
        headers = list(self._start.get("headers", ()))
        names = {name.lower() for name, _ in headers}
        if b"content-length" not in names:
            headers.append((b"content-length", b"%d" % len(body)))
        if self._keeps_alive and b"connection" not in names:
            headers.append(KEEP_ALIVE)
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _check(self) -> None:
        if self._size > MOST_UNREAD:
            self._parts, self._size = [], 0
            raise StreamBroken(f"Streamed answers of more than {MOST_UNREAD} bytes need HTTP/1.1.")


def asks_to_keep_alive(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the client names `keep-alive`, as an HTTP/1.0 client has to."""
    return any(name.lower() == b"connection" and b"keep-alive" in value.lower() for name, value in headers)
