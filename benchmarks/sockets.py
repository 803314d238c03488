"""A load generator for machines without wrk: keep-alive connections, one request at a time on each."""

import asyncio
import time
from urllib.parse import urlsplit

import httptools

RECONNECT_DELAY_S = 0.05


class Loop(asyncio.Protocol):
    """One connection: sends, waits for the answer, sends again. Reconnects when it is closed."""

    def __init__(self, request: bytes, times: list[float]) -> None:
        self._request, self._times = request, times
        self.errors = 0
        self.stopping = False
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """A close while an answer is due is an error; between answers it is not."""
        self.errors += self._due and not self.stopping
        self.closed.set()

    def on_message_complete(self) -> None:
        if self.stopping:
            return
        if self._parser.get_status_code() < 400:
            self._times.append(time.perf_counter() - self._began)
        else:
            self.errors += 1
        if self._parser.should_keep_alive():
            self._send()
        else:
            self._due = False
            self._transport.close()

    def stop(self) -> None:
        self.stopping = True
        self._transport.abort()

    def _send(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._began, self._due = time.perf_counter(), True
        self._transport.write(self._request)


def run(
    url: str, body: bytes, connections: int, seconds: float, token: str, content_type: str
) -> tuple[list[float], int, float]:
    """(seconds of each good answer, errors, seconds that it took)."""
    return asyncio.run(_run(url, body, connections, seconds, token, content_type))


async def _run(
    url: str, body: bytes, connections: int, seconds: float, token: str, content_type: str
) -> tuple[list[float], int, float]:
    parts, times = urlsplit(url), []
    request = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        + (f"Authorization: Bearer {token}\r\n\r\n" if token else "\r\n")
    ).encode() + body
    began = time.perf_counter()
    clients = (
        _client(parts.hostname or "", parts.port or 80, request, times, began + seconds)
        for _ in range(connections)
    )
    errors = sum(await asyncio.gather(*clients))
    return times, errors, time.perf_counter() - began


async def _client(host: str, port: int, request: bytes, times: list[float], deadline: float) -> int:
    """Keeps one connection busy until the deadline; returns its errors."""
    errors = 0
    while (left := deadline - time.perf_counter()) > 0:
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Loop(request, times), host, port)
        except OSError:
            errors += 1
            await asyncio.sleep(RECONNECT_DELAY_S)
            continue
        try:
            await asyncio.wait_for(connection.closed.wait(), left)
        except TimeoutError:
            connection.stop()
        errors += connection.errors
    return errors
