"""uvicorn, as a gateway runs it: several servers in one event loop."""

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable, Iterator
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from gateway.http.closing import Leaving
from gateway.http.guarded import GuardedProtocol
from gateway.http.refusal import LINGER_S
from marq.host import certificates
from marq.host.sockets import BACKLOG
from marq.host.stop_limit import LEAST_S
from marq.settings import addresses
from marq.settings.fields import Settings


class Server(uvicorn.Server):
    """A uvicorn server among others in one event loop: signals are the gateway's.

    Its stop hands its sockets over to `leaving`. Requests that have no answer after `limit_s` are refused.
    """

    def __init__(self, config: uvicorn.Config, leaving: Leaving) -> None:
        super().__init__(config)
        self._leaving, self.limit_s = leaving, LEAST_S

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._leaving.begin(sockets or (), self.config)
        giving_up = asyncio.get_running_loop().call_later(self.limit_s, self._give_up)
        self.config.timeout_graceful_shutdown = math.ceil(self.limit_s + LINGER_S)
        await super().shutdown(sockets)
        giving_up.cancel()

    def _give_up(self) -> None:
        for connection in list(self.server_state.connections):
            cast(GuardedProtocol, connection).give_up()


def server(
    app: ASGIApp, protocol: Callable[..., asyncio.Protocol], address: str, config: Settings, leaving: Leaving
) -> Server:
    """The server of one address."""
    tls = addresses.parse(address).tls
    return Server(
        uvicorn.Config(
            app,
            ssl_keyfile=config.private_key_file if tls else None,
            ssl_certfile=config.certificate_file if tls else None,
            ssl_ciphers=certificates.CIPHERS,
            http=protocol,  # type: ignore[arg-type] # uvicorn calls it, so that a partial will do
            loop="uvloop", ws="none", lifespan="off", log_level="warning",
            access_log=False, server_header=False, date_header=False,
            timeout_keep_alive=75, backlog=BACKLOG,
        ),
        leaving,
    )  # fmt: skip
