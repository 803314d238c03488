"""One call of the handler: rows go in, replies come out, each outcome has a status."""

import asyncio
import copy
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from marq.errors import BadRequest, DeadlineExceeded, ServiceError
from marq.forms import MOST_FIELDS
from marq.payloads.place import Place
from marq.queue.entries import Request
from marq.queue.replies.entries import Reply
from ts.context import Context, RequestProcessor
from ts.utils.util import PredictionException
from workers.handler import replies as responses
from workers.handler import rows
from workers.handler.memory import RowLimit, is_out_of_memory
from workers.handler.parts import NobodyWaits, PartSink, PartStream
from workers.handler.steps import LiveRow, goes_on, number

log = logging.getLogger(__name__)

Handle = Callable[[list[rows.Row], Context], Any]  # Any: of a coroutine function it is awaited


class HandlerCall:
    """Runs a loaded handler on batches of requests; never raises an exception of the handler.

    `part_sink` takes the parts of streamed answers; it is set before the first run.
    """

    def __init__(
        self, handle: Handle, context: Context, decode_input: bool, max_response_size: int,
        place: Place | None = None, max_form_fields: int = MOST_FIELDS,
    ) -> None:  # fmt: skip
        """`place`: of the bodies that are files."""
        self._place, self._max_form_fields = place, max_form_fields
        self._handle = handle
        self._context = context
        self._decode_input = decode_input
        self._max_response_size = max_response_size
        self.part_sink: PartSink | None = None
        self._pid = os.getpid()
        self.row_limit = RowLimit()

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request, in their order.

        A batch that does not fit into the device's memory is run again in halves.
        """
        replies: list[Reply] = []
        while rest := requests[len(replies) :]:
            replies += self._run(rest[: self.row_limit.of(len(rest))])
        return replies

    def _run(self, requests: Sequence[Request]) -> list[Reply]:
        try:
            data, processors, stream = self._prepare(requests, self._context)
        except Exception as error:
            if len(requests) > 1:
                return [reply for request in requests for reply in self._run([request])]
            return self._unreadable(requests, error)
        try:
            returned = responses.check(self._run_handler(data), len(requests))
        except BaseException as error:  # GeneratorExit, KeyboardInterrupt: whatever the handler raises
            if self._may_fit_in_halves(error, requests, stream):
                return self.run(requests)
            return self._failed(requests, error)
        return responses.build(requests, returned, processors, self._max_response_size)

    def _run_handler(self, data: list[rows.Row]) -> object:
        try:
            return self._handle(data, self._context)
        finally:
            self._end_fork()

    def _end_fork(self) -> None:
        """Ends a fork that has come back from the handler: the requests are its parent's to answer."""
        if os.getpid() != self._pid:
            log.error("a process that the handler forked has returned from it, and ends")
            os._exit(1)

    def join(self, request: Request, started_ms: int) -> LiveRow | Reply:
        """The request as a live row (continuous batching); its answer, if it cannot be read."""
        try:
            if request.input_url or request.output_url:
                raise BadRequest("A model with continuousBatching has no input_url and output_url.")
            row, headers = rows.build(request, self._decode_input, self._place, self._max_form_fields)
        except Exception as error:
            return self._unreadable([request], error)[0]
        return LiveRow(request, row, headers, started_ms)

    def step(self, live: Sequence[LiveRow]) -> list[Reply]:
        """One call of the handler with all live rows: a reply for each.

        A row whose reply has `more` stays live. An error of the handler ends all rows.
        """
        requests = [row.request for row in live]
        processors = [RequestProcessor(row.headers) for row in live]
        self._place_in(self._context, requests, processors)
        self._context.cl_socket = None  # a row is streamed by its steps
        try:
            values = responses.check(self._run_handler([row.take() for row in live]), len(live))
            criteria = self._context.stopping_criteria
            goes = [goes_on(criteria, index, value, processors[index]) for index, value in enumerate(values)]
        except BaseException as error:  # GeneratorExit, KeyboardInterrupt: whatever the handler raises
            return self._failed(requests, error)
        replies = responses.build(requests, values, processors, self._max_response_size)
        return [
            number(row, reply, keeps and reply.status < 400)
            for row, reply, keeps in zip(live, replies, goes, strict=True)
        ]

    async def run_async(self, requests: Sequence[Request], timeout_s: float) -> list[Reply]:
        """The same for a coroutine handler, which gets a context of its own for each batch.

        It is cancelled when it has sent no part, no progress and no result for `timeout_s`.
        """
        replies: list[Reply] = []
        while rest := requests[len(replies) :]:
            replies += await self._run_async(rest[: self.row_limit.of(len(rest))], timeout_s)
        return replies

    async def _run_async(self, requests: Sequence[Request], timeout_s: float) -> list[Reply]:
        context = copy.copy(self._context)
        context.metrics = copy.copy(context.metrics)
        try:
            data, processors, stream = self._prepare(requests, context)
        except Exception as error:
            if len(requests) > 1:
                alone = [await self._run_async([request], timeout_s) for request in requests]
                return [reply for [reply] in alone]
            return self._unreadable(requests, error)
        try:
            running = asyncio.ensure_future(self._await(data, context))
            await self._finish(running, stream, timeout_s)
            returned = responses.check(running.result(), len(requests))
        except (Exception, asyncio.CancelledError) as error:
            if self._may_fit_in_halves(error, requests, stream):
                return await self.run_async(requests, timeout_s)
            return self._failed(requests, error)
        return responses.build(requests, returned, processors, self._max_response_size)

    def _may_fit_in_halves(
        self, error: BaseException, requests: Sequence[Request], stream: PartStream
    ) -> bool:
        """Whether to run the requests again: not if parts of the answers have been sent."""
        if not is_out_of_memory(error) or len(requests) == 1 or stream.used:
            return False
        self.row_limit.shrink(len(requests))
        return True

    async def _finish(self, running: asyncio.Future[object], stream: PartStream, timeout_s: float) -> None:
        """Waits for the result, as long as parts or progress come in time. Raises DeadlineExceeded."""
        began = time.monotonic()
        while not running.done():
            left = max(began, stream.last_sign) + timeout_s - time.monotonic()
            if left <= 0:
                running.cancel()
                raise DeadlineExceeded(f"No answer within responseTimeout ({timeout_s:g} s).")
            await asyncio.wait({running}, timeout=left)

    async def _await(self, data: list[rows.Row], context: Context) -> object:
        try:
            return await self._handle(data, context)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:  # it would end the event loop, and with it all other batches
            raise RuntimeError(f"the handler raised {error!r}") from error
        finally:
            self._end_fork()

    def _prepare(
        self, requests: Sequence[Request], context: Context
    ) -> tuple[list[rows.Row], list[RequestProcessor], PartStream]:
        data: list[rows.Row] = []
        processors: list[RequestProcessor] = []
        for request in requests:
            row, headers = rows.build(request, self._decode_input, self._place, self._max_form_fields)
            data.append(row)
            processors.append(RequestProcessor(headers))
        self._place_in(context, requests, processors)
        context.cl_socket = stream = PartStream(requests, processors, self.part_sink)
        return data, processors, stream

    def _place_in(
        self, context: Context, requests: Sequence[Request], processors: list[RequestProcessor]
    ) -> None:
        ids = {index: request.id.decode() for index, request in enumerate(requests)}
        context.request_ids = ids
        context.request_processor = processors
        context.metrics.request_ids = ids

    def _unreadable(self, requests: Sequence[Request], error: Exception) -> list[Reply]:
        if isinstance(error, ServiceError):
            log.error("%d: request %s: %s", error.status, requests[0].id.decode(), error.message)
            return responses.failures(requests, error.status, error.message, error.type)
        log.error("400: request %s cannot be read", requests[0].id.decode(), exc_info=error)
        return responses.failures(requests, 400, "The request cannot be read.", BadRequest.type)

    def _failed(self, requests: Sequence[Request], error: BaseException) -> list[Reply]:
        status, message = _outcome(error)
        kind = error.type if isinstance(error, ServiceError) else ServiceError.type
        ids = ", ".join(request.id.decode() for request in requests)
        if isinstance(error, responses.BatchFailed):
            log.error("%d %s Requests: %s", status, message.replace("\n", ": "), ids)
        else:
            trace = None if isinstance(error, NobodyWaits) else error
            log.error("%d %s. Requests: %s", status, message, ids, exc_info=trace)
        return responses.failures(requests, status, message, kind)


def _outcome(error: BaseException) -> tuple[int, str]:
    """(status, message) for a batch whose call raised this error."""
    if isinstance(error, ServiceError):
        return error.status, error.message
    if isinstance(error, PredictionException):
        return _status(error.error_code), _text(error.message)
    if isinstance(error, MemoryError) or "CUDA" in _text(error):
        return 507, "Out of resources"
    return 503, "Prediction failed"


def _status(given: object) -> int:
    """The status that a handler asks for; 500 if it is not a status."""
    try:
        status = responses.check_status(given)
    except (TypeError, ValueError):
        return 500
    return 507 if status == 413 else status


def _text(value: object) -> str:
    """`str(value)`, or the name of its class if that fails."""
    try:
        return str(value)
    except Exception:
        return type(value).__name__
