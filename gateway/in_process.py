"""Requests to an ASGI application of this process, without a connection."""

import asyncio
from dataclasses import dataclass
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Scope

from gateway.asgi import SUBJECT, Headers


@dataclass(frozen=True)
class Request:
    """A request. The path is not quoted."""

    method: str
    path: str
    query: bytes = b""
    headers: Headers | None = None
    body: bytes = b""
    subject: str = ""  # of the client's certificate


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    headers: Headers


class Application:
    """An application that is called in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(self, request: Request) -> Answer:
        """The answer to a request. Cancelling this cancels the request, as the end of a connection does."""
        status, body = 500, bytearray()
        headers: Headers = []
        messages = [{"type": "http.request", "body": request.body, "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", ()))
            body.extend(message.get("body", b""))

        await self._app(_scope(request), receive, send)
        return Answer(status, bytes(body), headers)


def _scope(request: Request) -> Scope:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": request.method, "path": request.path, "raw_path": quote(request.path).encode(),
        "query_string": request.query, "headers": request.headers or [], "root_path": "",
        "client": None, "server": None, SUBJECT: request.subject,
    }  # fmt: skip
