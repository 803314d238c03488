"""The HTTP protocol classes of the addresses, with TorchServe's answer to invalid HTTP."""

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.asgi import NO_CACHE, error_headers
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

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        refuse(self.transport, BadRequest("Invalid HTTP message."))


class InferenceProtocol(PredictionProtocol, ManagementProtocol):
    """Runs models without an ASGI call per request."""


def refuse(transport: asyncio.Transport, error: ServiceError) -> None:
    """Answers bytes that did not become a request, and closes the connection."""
    body = error.body()
    headers = [
        (b"x-request-id", new_id()), *NO_CACHE, *error_headers(error),
        (b"connection", b"close"), (b"content-length", b"%d" % len(body)),
    ]  # fmt: skip
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    transport.write(b"".join((STATUS_LINE[error.status], lines, b"\r\n", body)))
    transport.close()
