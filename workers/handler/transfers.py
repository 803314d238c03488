"""Fetches the bodies of jobs from their `input_url`, and puts their results to their `output_url`."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin

from archive.store import s3
from marq.errors import BadRequest, RequestTooLarge, ServiceError
from marq.jobs.transfer_urls import SETTING, AllowedUrls
from marq.queue.entries import Request
from marq.queue.replies.entries import JSON_HEADERS, Reply
from workers.handler import replies as responses
from workers.launch import PoolSpec

if TYPE_CHECKING:
    import httpcore

log = logging.getLogger(__name__)

T = TypeVar("T")

SHARE_OF_TIMEOUT = 0.45  # of responseTimeout, in which the bodies must be there, and then the results away
MOST_REDIRECTS = 5
FIRST_ERROR = 400  # status
CONNECT_S, READ_S = 10.0, 60.0
LONGEST_TEXT = 300
PIECE = 1 << 20  # bytes of a result that are sent at a time


class TransferFailed(ServiceError):
    """Raised when a body cannot be fetched, or a result cannot be put where it belongs."""

    status, type = 502, "TransferFailedException"


class Transfers:
    """The transfers of one replica. A failed one fails its own job."""

    def __init__(self, allowed: AllowedUrls, most: int, timeout_s: float) -> None:
        """`most`: bytes of one body; `timeout_s`: of the transfers of one batch in one direction."""
        self._allowed, self._most, self._timeout_s = allowed, most, timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def of(cls, pool: PoolSpec) -> "Transfers":
        timeout_s = SHARE_OF_TIMEOUT * pool.model.response_timeout_s
        return cls(AllowedUrls.parse(pool.job_url_hosts), pool.max_fetched_size, timeout_s)

    def run(
        self, batch: Sequence[Request], handler: Callable[[Sequence[Request]], list[Reply]]
    ) -> list[Reply]:
        """The replies of the handler, which gets the rows whose bodies are there."""
        if not _concerns(batch):
            return handler(batch)
        failed = self._wait(self._fetch_all(batch))
        good = [request for request in batch if request.id not in failed]
        replies = self._wait(self._put_all(good, handler(good))) if good else []
        return _in_order(batch, replies, failed)

    async def run_async(
        self, batch: Sequence[Request], handler: Callable[[Sequence[Request]], Awaitable[list[Reply]]]
    ) -> list[Reply]:
        """The same for a coroutine."""
        if not _concerns(batch):
            return await handler(batch)
        failed = await self._fetch_all(batch)
        good = [request for request in batch if request.id not in failed]
        replies = await self._put_all(good, await handler(good)) if good else []
        return _in_order(batch, replies, failed)

    def _wait(self, transfers: Awaitable[T]) -> T:
        """Not with asyncio.run, which would take the handler's own event loop away."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(transfers)

    async def _fetch_all(self, batch: Sequence[Request]) -> dict[bytes, Reply]:
        """The errors of the rows whose bodies could not be fetched, by their ids."""
        asked = [request for request in batch if request.input_url]
        errors = await asyncio.gather(*(self._guarded(self._fetch(request)) for request in asked))
        return {
            request.id: _failure(request, error)
            for request, error in zip(asked, errors, strict=True)
            if error
        }

    async def _put_all(self, batch: Sequence[Request], replies: list[Reply]) -> list[Reply]:
        """The replies, with the place of the result instead of it where that was put somewhere.

        The bodies, which the handler has had, are dropped: the loop keeps the rows until the next batch.
        """
        for request in batch:
            request.body = b""

        async def put(request: Request, reply: Reply) -> Reply:
            if not request.output_url or reply.status >= FIRST_ERROR:
                return reply
            error = await self._guarded(self._put(request, reply))
            return _failure(request, error) if error else _put_reply(request, reply)

        return list(await asyncio.gather(*map(put, batch, replies)))

    async def _guarded(self, transfer: Awaitable[None]) -> ServiceError | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await transfer
        except TimeoutError:
            share = f"{SHARE_OF_TIMEOUT:.0%} of the model's responseTimeout"
            return TransferFailed(f"It took longer than {self._timeout_s:g} s, which is {share}.")
        except ServiceError as error:
            return error
        except Exception as error:  # of the network, of S3's library
            return TransferFailed(f"{type(error).__name__}: {error}"[:LONGEST_TEXT])
        return None

    async def _fetch(self, request: Request) -> None:
        url = request.input_url.decode("latin-1")
        self._allowed.check(url, "input_url")
        if s3.is_s3(url):
            body, kind = await self._from_s3(url), b""
        else:
            body, kind = await self._from_web(url)
        request.body, request.input_url = body, b""
        request.type = request.type or kind

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

    async def _put(self, request: Request, reply: Reply) -> None:
        url = request.output_url.decode("latin-1")
        self._allowed.check(url, "output_url")
        kind = _content_type(reply)
        if s3.is_s3(url):
            await asyncio.to_thread(s3.put, url, reply.body, kind)
            return
        headers = [(b"content-length", b"%d" % len(reply.body))]
        headers += [(b"content-type", kind.encode("latin-1"))] if kind else []
        async with (
            self._connections() as pool,
            pool.stream(
                "PUT", url, headers=headers, content=_pieces(reply.body), extensions=_timeouts()
            ) as answer,
        ):
            if not 200 <= answer.status < 300:
                raise TransferFailed(f"The host of output_url answered with status {answer.status}.")

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


def _concerns(batch: Sequence[Request]) -> bool:
    return any(request.input_url or request.output_url for request in batch)


def _in_order(batch: Sequence[Request], replies: list[Reply], failed: dict[bytes, Reply]) -> list[Reply]:
    left = iter(replies)
    return [failed[request.id] if request.id in failed else next(left) for request in batch]


def _failure(request: Request, error: ServiceError) -> Reply:
    log.warning("request %s: %s", request.id.decode(errors="replace"), error.message)
    return responses.failures([request], error.status, error.message, error.type)[0]


def _put_reply(request: Request, reply: Reply) -> Reply:
    """A presigned URL is shown without its query, which is a secret."""
    where = request.output_url.decode("latin-1").partition("?")[0]
    about = {"output_url": where, "size": len(reply.body), "content_type": _content_type(reply)}
    return Reply(reply.id, 200, json.dumps(about).encode(), JSON_HEADERS)


def _content_type(reply: Reply) -> str:
    headers = json.loads(reply.headers or b"{}")
    return next((value for name, value in headers.items() if name.lower() == "content-type"), "")


def _header(answer: "httpcore.Response", name: bytes) -> bytes:
    return next((value for each, value in answer.headers if each.lower() == name), b"")


def _timeouts() -> dict[str, dict[str, float]]:
    return {"timeout": {"connect": CONNECT_S, "read": READ_S, "write": READ_S, "pool": CONNECT_S}}
