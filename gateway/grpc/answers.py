"""Runs a prediction for a gRPC call: from the route to the parts of the answer."""

import contextlib
import logging
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import NamedTuple

import grpc

from gateway.grpc import failures
from gateway.grpc.calls import Call
from gateway.grpc.failures import Failure
from gateway.grpc.rows import Body
from gateway.inference import deadlines
from gateway.inference.answer_parts import first_part
from gateway.inference.predictor import Predictor
from gateway.inference.sequence_headers import in_sequence
from gateway.routing.route import Route
from marq.errors import DeadlineExceeded, ServiceError
from marq.plugins.protocols import INFERENCE, Access
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.ids import new_id
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import ReplyStream

log = logging.getLogger(__name__)

ANYONE = Access(INFERENCE, "gRPC", "", [])  # has no token


class Sequence(NamedTuple):
    """The sequence that a request belongs to, for models with sequences; without a name, a new one."""

    name: str
    ends: bool = False


NO_SEQUENCE = Sequence("")


class Answers:
    """Finds routes and runs predictions. `not_found` is the code for models that do not exist."""

    def __init__(self, predictor: Predictor, not_found: grpc.StatusCode) -> None:
        self._predictor, self._not_found = predictor, not_found

    async def authorize(self, call: Call) -> None:
        """Raises Failure if the caller may not do this, such as without the token of the inference API."""
        try:
            await self._predictor.authorize(self._access(call))
        except ServiceError as error:
            raise failures.unknown(error, self._not_found) from None

    async def find(self, call: Call, model: str, version: str) -> Route:
        """The route of a model; notes it for the metrics. Raises Failure."""
        try:
            call.route = await self._predictor.find(self._access(call), model, version or None)
        except ServiceError as error:
            raise failures.unknown(error, self._not_found) from None
        return call.route

    async def whole(self, call: Call, route: Route, body: Body, sequence: Sequence = NO_SEQUENCE) -> bytes:
        """The answer, with all its parts in one. Raises Failure."""
        request_id, stream = new_id(), ReplyStream()
        try:
            part = await self._first(call, route, (request_id, stream), body, b"", sequence)
            bodies = [_checked(part).body]
            while part.more:
                part = await stream.next()
                bodies.append(_checked(part).body)
            return b"".join(bodies)
        except ServiceError as error:
            raise self._failure(request_id, error) from None
        finally:
            self._predictor.cancel(request_id)

    def parts(
        self, call: Call, route: Route, body: Body, headers: bytes = b"", sequence: Sequence = NO_SEQUENCE
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Reply]]:
        """The parts of the answer as they come; leaving the context cancels the request. Raises Failure.

        `headers` are the handler's, as the JSON object of the queue contract.
        """
        parts = self._parts(call, route, body, headers, sequence)
        return contextlib.aclosing(parts)  # type: ignore[type-var]

    async def _parts(
        self, call: Call, route: Route, body: Body, headers: bytes, sequence: Sequence
    ) -> AsyncIterator[Reply]:
        request_id, stream = new_id(), ReplyStream()
        try:
            part = await self._first(call, route, (request_id, stream), body, headers, sequence)
            while part.more:
                yield _checked(part)
                part = await stream.next()
            yield _checked(part)
        except ServiceError as error:
            raise self._failure(request_id, error) from None
        finally:
            self._predictor.cancel(request_id)

    async def _first(
        self, call: Call, route: Route, sink: tuple[bytes, ReplyStream], body: Body, headers: bytes,
        sequence: Sequence,
    ) -> Reply:  # fmt: skip
        """Queues the request of this id; the first part of its answer. Raises Failure and ServiceError."""
        request_id, stream = sink
        timeout_s = call.timeout_s(route.client_timeout_ms)
        if timeout_s is None and not headers:
            head = _plain_head(body.type)
        else:
            head = EntryHead(type=body.type, headers=headers, deadline=deadlines.deadline(timeout_s))
        if route.spec.sequence_batching:
            head = in_sequence(head, sequence.name, sequence.ends)
        try:
            self._predictor.begin(route, request_id, EntryFields(body.content, head), stream)
        except ServiceError as error:
            raise failures.refused(error) from None
        part = await first_part(stream, timeout_s)
        route.backlog.waiting -= 1
        return part

    def _failure(self, request_id: bytes, error: ServiceError) -> Failure:
        if isinstance(error, DeadlineExceeded):
            self._predictor.cancel(request_id, error.status)
        else:
            log.warning("request %s: %s", request_id.decode(), error.message)
        return failures.failed(error)

    def _access(self, call: Call) -> Access:
        return ANYONE if self._predictor.is_open else call.access


@lru_cache
def _plain_head(content_type: bytes) -> EntryHead:
    """The head of most requests, which is packed once."""
    return EntryHead(type=content_type)


def _checked(part: Reply) -> Reply:
    """Raises Failure for an error."""
    if part.status >= 400:
        raise failures.of_reply(part)
    return part
