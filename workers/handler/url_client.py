"""Fetches bodies from URLs, and puts results to URLs, of allowed hosts only."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from archive.store import s3
from marq.errors import BadRequest, RequestTooLarge, ServiceError
from marq.jobs.transfer_urls import SETTING, AllowedUrls

if TYPE_CHECKING:
    import httpcore

MOST_REDIRECTS = 5
CONNECT_S, READ_S = 10.0, 60.0
PIECE = 1 << 20  # bytes of a result that are sent at a time


class TransferFailed(ServiceError):
    """Raised when a body cannot be fetched, or a result cannot be put where it belongs."""

    status, type = 502, "TransferFailedException"


class UrlClient:
    """Speaks HTTPS and S3. Raises ServiceError, and the errors of the network and of S3's library."""

    def __init__(self, allowed: AllowedUrls, most: int) -> None:
        """`most`: bytes of one body that is fetched."""
        self._allowed, self._most = allowed, most

    async def fetch(self, url: str) -> tuple[bytearray, bytes]:
        """The body at an `input_url`, and its content type if the host names one."""
        self._allowed.check(url, "input_url")
        return (await self._from_s3(url), b"") if s3.is_s3(url) else await self._from_web(url)

    async def put(self, url: str, content: bytes, content_type: str) -> None:
        """Stores a result at an `output_url`."""
        self._allowed.check(url, "output_url")
        if s3.is_s3(url):
            await asyncio.to_thread(s3.put, url, content, content_type)
            return
        headers = [(b"content-length", b"%d" % len(content))]
        headers += [(b"content-type", content_type.encode("latin-1"))] if content_type else []
        async with (
            self._connections() as pool,
            pool.stream(
                "PUT", url, headers=headers, content=_pieces(content), extensions=_timeouts()
            ) as answer,
        ):
            if not 200 <= answer.status < 300:
                raise TransferFailed(f"The host of output_url answered with status {answer.status}.")

    async def _from_s3(self, url: str) -> bytearray:
        body, is_given_up = bytearray(), threading.Event()

        def receive() -> None:
            for data, size in s3.received(url):
                if is_given_up.is_set():
                    break
                self._check_size(max(size, len(body)))
                body.extend(data)

        try:
            await asyncio.to_thread(receive)
        finally:
            is_given_up.set()
        return body

    async def _from_web(self, url: str) -> tuple[bytearray, bytes]:
        """The body and its content type. Each redirect is judged as the URL itself."""
        async with self._connections() as pool:
            for _ in range(MOST_REDIRECTS + 1):
                async with pool.stream("GET", url, extensions=_timeouts()) as answer:
                    location = _header(answer, b"location")
                    if answer.status in (301, 302, 303, 307, 308) and location:
                        url = urljoin(url, location.decode("latin-1"))
                        self._check_redirect(url)
                        continue
                    if answer.status != 200:
                        raise TransferFailed(f"The host of input_url answered with status {answer.status}.")
                    return await self._received(answer), _header(answer, b"content-type")
        raise TransferFailed(f"input_url was redirected more than {MOST_REDIRECTS} times.")

    def _check_redirect(self, url: str) -> None:
        """Raises TransferFailed: it is not the job that has named this URL."""
        if s3.is_s3(url):
            raise TransferFailed("A redirect of input_url must stay on the web.")
        try:
            self._allowed.check(url, "a redirect of input_url")
        except BadRequest as error:
            raise TransferFailed(error.message) from None

    async def _received(self, answer: "httpcore.Response") -> bytearray:
        body = bytearray()
        announced = _header(answer, b"content-length")
        self._check_size(int(announced) if announced.isdigit() else 0)
        async for data in answer.aiter_stream():
            self._check_size(len(body) + len(data))
            body += data
        return body

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise RequestTooLarge(
                f"The body at input_url has {size} bytes or more; max_fetched_size allows {self._most}."
            )

    def _connections(self) -> "httpcore.AsyncConnectionPool":
        """To allowed addresses only. Loaded here, as few models need it."""
        import httpcore
        import httpx

        from marq.webhooks.connections import AllowedNetwork

        return httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            network_backend=AllowedNetwork(self._allowed.hosts, SETTING),
        )


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """The content in parts, because the network's buffers copy what they get."""
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


def _header(answer: "httpcore.Response", name: bytes) -> bytes:
    return next((value for each, value in answer.headers if each.lower() == name), b"")


def _timeouts() -> dict[str, dict[str, float]]:
    return {"timeout": {"connect": CONNECT_S, "read": READ_S, "write": READ_S, "pool": CONNECT_S}}
