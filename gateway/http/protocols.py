"""The HTTP protocol classes of the addresses."""

from typing import cast

from starlette.types import Scope

from gateway.asgi import CLIENT_HEADERS, Headers
from gateway.http.fast_path import PredictionProtocol
from gateway.http.guarded import NOWHERE, GuardedProtocol


class ManagementProtocol(GuardedProtocol):
    """For addresses and settings that need the ASGI application for each request."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.client_headers: Headers = []
        cast(Scope, self.scope)[CLIENT_HEADERS] = self.client_headers

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps the name as the client wrote it, besides uvicorn's in lower case."""
        if self._incomplete is not NOWHERE:
            self.client_headers.append((name, value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """uvicorn would end the connection after each answer to HTTP/1.0; `Http10` makes that unnecessary."""
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and self.cycle is not None:
            self.cycle.keep_alive = self.parser.should_keep_alive()


class InferenceProtocol(PredictionProtocol, ManagementProtocol):
    """Runs models without an ASGI call per request."""
