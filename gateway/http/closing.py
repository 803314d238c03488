"""The answer to clients that connect while a gateway stops."""

import asyncio
from typing import cast

from gateway.http.refusal import refuse_sender
from marq.errors import QueueUnavailable
from marq.queue.broker import STOPPING


class ClosingProtocol(asyncio.Protocol):
    """Answers the first bytes with 503, and closes the connection."""

    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - the protocol's interface
        if transport := self.transport:
            self.transport = None
            refuse_sender(transport, QueueUnavailable(STOPPING), asyncio.get_running_loop())
