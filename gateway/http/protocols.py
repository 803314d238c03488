"""The HTTP protocol classes of the addresses, with TorchServe's answer to invalid HTTP."""

import asyncio
from typing import cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway import common_headers
from gateway.asgi import CLIENT_HEADERS, Headers, error_headers
from gateway.http import connection_limit
from gateway.http.fast_path import PredictionProtocol
from marq.errors import BadRequest, ServiceError, ServiceUnavailable
from marq.queue.ids import new_id


class ManagementProtocol(HttpToolsProtocol):
    """For addresses and settings that need the ASGI application for each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if connection_limit.are_short(transport):
            refuse(transport, ServiceUnavailable("Too many connections are open."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.client_headers: Headers = []
        cast(Scope, self.scope)[CLIENT_HEADERS] = self.client_headers

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps the name as the client wrote it, besides uvicorn's in lower case."""
        self.client_headers.append((name, value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """uvicorn would end the connection after each answer to HTTP/1.0; `Http10` makes that unnecessary."""
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and self.cycle is not None:
            self.cycle.keep_alive = self.parser.should_keep_alive()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        refuse(self.transport, BadRequest("Invalid HTTP message."))


class InferenceProtocol(PredictionProtocol, ManagementProtocol):
    """Runs models without an ASGI call per request."""


def refuse(transport: asyncio.Transport, error: ServiceError) -> None:
    """Answers bytes that did not become a request, and closes the connection."""
    body = error.body()
    headers = [
        *common_headers.of_answer(new_id()), *error_headers(error),
        (b"connection", b"close"), (b"content-length", b"%d" % len(body)),
    ]  # fmt: skip
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    transport.write(b"".join((STATUS_LINE[error.status], lines, b"\r\n", body)))
    transport.close()
