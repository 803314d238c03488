"""uvicorn, as a gateway runs it: several servers in one event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from gateway.http.closing import Leaving
from marq.host import certificates
from marq.host.sockets import BACKLOG
from marq.settings import addresses
from marq.settings.fields import Settings


class Server(uvicorn.Server):
    """A uvicorn server among others in one event loop: signals are the gateway's.

    Its stop hands its sockets over to `leaving`.
    """

    def __init__(self, config: uvicorn.Config, leaving: Leaving) -> None:
        super().__init__(config)
        self._leaving = leaving

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._leaving.begin(sockets or (), self.config)
        await super().shutdown(sockets)


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
