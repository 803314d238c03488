"""Fetches the bodies of jobs from their `input_url`, and puts their results to their `output_url`."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from marq.errors import ServiceError
from marq.jobs.transfer_urls import AllowedUrls
from marq.queue.entries import Request
from marq.queue.replies.entries import JSON_HEADERS, Reply
from workers.handler import replies as responses
from workers.handler.url_client import TransferFailed, UrlClient
from workers.launch import PoolSpec

log = logging.getLogger(__name__)

T = TypeVar("T")

SHARE_OF_TIMEOUT = 0.45  # of responseTimeout, in which the bodies must be there, and then the results away
FIRST_ERROR = 400  # status
LONGEST_TEXT = 300


class Transfers:
    """The transfers of one replica. A failed one fails its own job."""

    def __init__(self, allowed: AllowedUrls, most: int, timeout_s: float) -> None:
        """`most`: bytes of one body; `timeout_s`: of the transfers of one batch in one direction."""
        self._client, self._timeout_s = UrlClient(allowed, most), timeout_s
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
        request.body, kind = await self._client.fetch(request.input_url.decode("latin-1"))
        request.input_url, request.type = b"", request.type or kind

    async def _put(self, request: Request, reply: Reply) -> None:
        await self._client.put(request.output_url.decode("latin-1"), reply.body, _content_type(reply))


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
