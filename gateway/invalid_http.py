"""The protocols of the two addresses, with TorchServe's answers to what is no HTTP and to OPTIONS."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.asgi import JSON_TYPE, NO_CACHE
from gateway.protocol import PredictionProtocol
from marq.errors import BadRequest
from marq.identifiers import new_id


class ManagementProtocol(HttpToolsProtocol):
    """Runs no models."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        body = BadRequest("Invalid HTTP message.").body()
        headers = [
            (b"x-request-id", new_id()), *NO_CACHE, JSON_TYPE,
            (b"connection", b"close"), (b"content-length", b"%d" % len(body)),
        ]  # fmt: skip
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(b"".join((STATUS_LINE[400], lines, b"\r\n", body)))
        self.transport.close()


class InferenceProtocol(PredictionProtocol):
    """Runs models without an ASGI call for each request."""

    send_400_response = ManagementProtocol.send_400_response
