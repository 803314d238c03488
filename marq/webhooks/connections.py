"""Connections to hosts that users name, for webhooks and files of jobs: to allowed addresses only."""

import asyncio
import socket
from collections.abc import Iterable

import httpcore

from marq.webhooks.hosts import AddressRefused, AllowedHosts
from marq.webhooks.urls import SETTING

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class AllowedNetwork(httpcore.AsyncNetworkBackend):
    """Looks a host up once and connects to the address that was checked: a second look-up might differ."""

    def __init__(self, allowed: AllowedHosts, setting: str = SETTING) -> None:
        """`setting`: that has named the allowed hosts."""
        self._setting = setting
        self._allowed, self._network = allowed, httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressRefused, or httpcore.ConnectError."""
        failure: httpcore.ConnectError | None = None
        for address in await self._addresses(host, port):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure or AddressRefused(
            f"{host} has no address that may be connected to; {self._setting} can name it."
        )

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be looked up: {error}") from None
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        named = self._allowed.allows_name(host)
        return [each for each in addresses if named or self._allowed.allows_address(each)]
