"""What clients get that send a request while a gateway stops."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterable, Iterator
from functools import partial
from typing import cast

import uvicorn

from gateway.http.refusal import LINGER_S, linger, refuse_sender
from marq.errors import QueueUnavailable
from marq.queue.broker import STOPPING

IDLE_S = 0.3  # for the next request of a client that has just got an answer: a round trip around the world
FIRST_S = 0.5  # for the first request of a connection that was new when the gateway had stopped
LOOK_EVERY_S = 0.02


class ClosingProtocol(asyncio.Protocol):
    """Answers the first bytes with 503, and closes the connection."""

    def __init__(self, leaving: "Leaving", transport: asyncio.Transport | None = None) -> None:
        self._leaving, self._transport, self._is_deaf = leaving, transport, False
        leaving.open.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._leaving.is_ending:
            self.close_if_idle_for(FIRST_S)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's interface
        self._leaving.open.discard(self)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self.refuse()

    def refuse(self) -> None:
        """Answers, unless that is done."""
        if self._transport and not self._is_deaf:
            self._is_deaf = True
            refuse_sender(self._transport, QueueUnavailable(STOPPING), asyncio.get_running_loop())

    def ignore(self) -> None:
        """Closes the connection of a client that still sends the body of a request that is answered."""
        if self._transport:
            self._is_deaf = True
            linger(self._transport, asyncio.get_running_loop())

    def close_if_idle_for(self, seconds: float) -> None:
        """Closes a connection on which nothing arrives in that time.

        It waits twice: a busy event loop comes to its timers before it reads what has arrived.
        """
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, loop.call_later, LOOK_EVERY_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._transport and not self._is_deaf:
            self._transport.close()


class Leaving:
    """The connections and sockets of a gateway that stops.

    `refuses`: new clients get 503. Else other gateways of the host take them.
    """

    def __init__(self, refuses: bool = True) -> None:
        self.has_begun = self.is_ending = False
        self.open: set[ClosingProtocol] = set()  # until they are closed
        self._refuses = refuses
        self._sockets: list[tuple[socket.socket, uvicorn.Config]] = []
        self._servers: list[asyncio.Server] = []

    def take_over(self, transport: asyncio.Transport, has_asked: bool) -> ClosingProtocol:
        """Answers the next request of a connection that waits for one.

        Closing it at once would reset it where a request has arrived that is not read yet. `has_asked`: the
        client knows that a connection may end after an answer, so an idle one is closed soon.
        """
        closing = ClosingProtocol(self, transport)
        transport.set_protocol(closing)
        if has_asked:
            closing.close_if_idle_for(IDLE_S)
        return closing

    async def begin(self, sockets: Iterable[socket.socket], config: uvicorn.Config) -> None:
        """The server that listened on the sockets ends."""
        self.has_begun = True
        for sock in [each.dup() for each in sockets]:
            self._sockets.append((sock, config))
            if self._refuses:
                await self._refuse(sock, config)

    def refuse_new(self) -> None:
        """New clients are refused from now on: no other gateway will take them."""
        if not self._refuses:
            self._refuses = True
            self._refusing = asyncio.gather(*(self._refuse(*each) for each in self._sockets))

    async def _refuse(self, sock: socket.socket, config: uvicorn.Config) -> None:
        server = await asyncio.get_running_loop().create_server(
            partial(ClosingProtocol, self), sock=sock.dup(), ssl=config.ssl,
            backlog=config.backlog,  # it is that of other gateways' sockets, too
        )  # fmt: skip
        self._servers.append(server)

    async def end(self) -> None:
        """Returns when no client is left that would see a reset, or after LINGER_S."""
        self.is_ending = True
        for server in self._servers:
            server.close()
        await asyncio.sleep(0)  # they are closed in the next turn of the event loop
        accepting = [asyncio.create_task(each) for each in self._waiting()]
        for closing in self.open:
            closing.close_if_idle_for(FIRST_S)
        clock = asyncio.get_running_loop().time
        deadline = clock() + LINGER_S
        while (self.open or not all(each.done() for each in accepting)) and clock() < deadline:
            await asyncio.sleep(LOOK_EVERY_S)
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)

    def _waiting(self) -> Iterator[Coroutine[object, object, object]]:
        """Closes the sockets, and accepts what waits there, unless other gateways will."""
        loop = asyncio.get_running_loop()
        while self._sockets:
            sock, config = self._sockets.pop()
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # none waits
                while self._refuses:
                    connection, _ = sock.accept()
                    factory = partial(ClosingProtocol, self)
                    yield loop.connect_accepted_socket(factory, connection, ssl=config.ssl)
            sock.close()
