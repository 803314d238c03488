"""A light HTTP/1.1 client that notices what ordinary ones hide: responses that nobody asked for."""

import asyncio
import contextlib
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import psutil

SPARE_FILES = 100
TEXT = {"Content-Type": "text/plain"}


@contextlib.contextmanager
def many_open_files() -> Iterator[int]:
    """As many as the hard limit allows; yields how many connections can still be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard - psutil.Process().num_fds() - SPARE_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Broken(Exception):
    """Raised when a connection cannot be made, or ends before the response is complete."""


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """Whether the request was turned away at once, with a hint when to come again."""
        return self.status in (429, 503) and "retry-after" in self.headers

    @property
    def told(self) -> str:
        return f"{self.status} {self.body[:500].decode('utf-8', 'replace')}"


class Client:
    """Keeps connections alive, one request at a time on each. `strays`: responses without a request."""

    def __init__(self, base_url: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        """`headers`: those of each request."""
        parts, self._headers = urlsplit(base_url), headers
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._idle: list[_Connection] = []
        self.strays = 0

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] = TEXT,
        timeout_s: float = 60.0,
    ) -> Response:
        """Raises Broken or TimeoutError."""
        own = {"Host": "chaos", "Content-Length": str(len(body)), **self._headers, **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in own.items())
        packed = f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body
        connection = await self._connect()
        try:
            async with asyncio.timeout(timeout_s):
                response = await connection.exchange(packed)
        except BaseException:
            connection.abort()
            raise
        self._idle.append(connection)
        return response

    def close(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def _connect(self) -> "_Connection":
        while self._idle:
            if not (connection := self._idle.pop()).closed:
                return connection
        try:
            loop = asyncio.get_running_loop()
            _, made = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError as error:
            raise Broken(str(error)) from error
        return made


class _Connection(asyncio.Protocol):
    def __init__(self, client: Client) -> None:
        self._client, self._received = client, bytearray()
        self._waiting: asyncio.Future[Response] | None = None
        self._transport: Any = None
        self.closed = False

    async def exchange(self, request: bytes) -> Response:
        if self.closed:
            raise Broken("closed by the server")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def abort(self) -> None:
        self._waiting = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._waiting is not None and (response := self._parse()):
            waiting, self._waiting = self._waiting, None
            waiting.set_result(response)
        if self._waiting is None and self._received and not self.closed:
            self._client.strays += 1
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Broken(str(exc or "closed by the server")))

    def _parse(self) -> Response | None:
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start, length = len(head) + len(end), int(headers["content-length"])
        if len(self._received) < start + length:
            return None
        body = bytes(self._received[start : start + length])
        del self._received[: start + length]
        return Response(int(status.split()[1]), headers, body)
