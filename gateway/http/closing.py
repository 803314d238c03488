"""The answer to clients that send a request while a gateway stops."""

import asyncio
from typing import cast

from gateway.http.refusal import refuse_sender
from marq.errors import QueueUnavailable
from marq.queue.broker import STOPPING

IDLE_S = 0.1  # for a request that was under way when the gateway began to stop


class ClosingProtocol(asyncio.Protocol):
    """Answers the first bytes with 503, and closes the connection."""

    def __init__(self, transport: asyncio.Transport | None = None) -> None:
        self.transport = transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - the protocol's interface
        if transport := self.transport:
            self.transport = None
            refuse_sender(transport, QueueUnavailable(STOPPING), asyncio.get_running_loop())

    def close_if_idle(self) -> None:
        """Closes a connection on which nothing has arrived."""
        if self.transport:
            self.transport.close()


def take_over(transport: asyncio.Transport, has_asked: bool) -> None:
    """Answers the next request of a connection that waits for one.

    Closing it at once would reset it where a request has arrived that is not read yet. `has_asked`: the
    client knows that a connection may end after an answer, so an idle one is closed soon.
    """
    closing = ClosingProtocol(transport)
    transport.set_protocol(closing)
    if has_asked:
        asyncio.get_running_loop().call_later(IDLE_S, closing.close_if_idle)
