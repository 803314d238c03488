"""Requests to an ASGI application of this process, without a connection."""

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Scope

from gateway.asgi import Headers


@dataclass(frozen=True)
class Request:
    """A request without a body. The path is not quoted."""

    method: str
    path: str
    query: bytes = b""
    headers: Headers | None = None


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes


class Application:
    """An application that is called in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(self, request: Request) -> Answer:
        """The answer to a request. Cancelling this cancels the request, as the end of a connection does."""
        status, body = 500, bytearray()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            body.extend(message.get("body", b""))

        await self._app(_scope(request), receive, send)
        return Answer(status, bytes(body))


def _scope(request: Request) -> Scope:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": request.method, "path": request.path, "raw_path": quote(request.path).encode(),
        "query_string": request.query, "headers": request.headers or [], "root_path": "",
        "client": None, "server": None,
    }  # fmt: skip
