"""The protocols of the two addresses, with TorchServe's answers to what is no HTTP and to OPTIONS."""

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.asgi import NO_CACHE, error_headers
from gateway.http import connection_limit
from gateway.http.fast_path import PredictionProtocol
from marq.errors import BadRequest, ServiceError, ServiceUnavailable
from marq.queue.ids import new_id


class ManagementProtocol(HttpToolsProtocol):
    """Runs no models."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if connection_limit.are_short(transport):
            refuse(transport, ServiceUnavailable("Too many connections are open."))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        refuse(self.transport, BadRequest("Invalid HTTP message."))


class InferenceProtocol(PredictionProtocol, ManagementProtocol):
    """Runs models without an ASGI call for each request."""


def refuse(transport: asyncio.Transport, error: ServiceError) -> None:
    """Answers what has not become a request, and ends the connection."""
    body = error.body()
    headers = [
        (b"x-request-id", new_id()), *NO_CACHE, *error_headers(error),
        (b"connection", b"close"), (b"content-length", b"%d" % len(body)),
    ]  # fmt: skip
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    transport.write(b"".join((STATUS_LINE[error.status], lines, b"\r\n", body)))
    transport.close()
