"""Runs a prediction for a gRPC call: from the route to the parts of the answer."""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import NamedTuple

import grpc

from gateway.grpc import failures
from gateway.grpc.calls import Call
from gateway.grpc.rows import Body
from gateway.inference import deadlines
from gateway.inference.answer import first_part
from gateway.inference.predictor import Predictor
from gateway.inference.sequence_headers import in_sequence
from gateway.routing.routes import Route
from marq.errors import DeadlineExceeded, ServiceError
from marq.queue.entries import EntryFields, EntryHead, Reply
from marq.queue.ids import new_id
from marq.queue.reply_stream import ReplyStream

log = logging.getLogger(__name__)


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
            await self._predictor.authorize(call.access)
        except ServiceError as error:
            raise failures.unknown(error, self._not_found) from None

    async def find(self, call: Call, model: str, version: str) -> Route:
        """The route of a model; notes it for the metrics. Raises Failure."""
        try:
            call.route = await self._predictor.find(call.access, model, version or None)
        except ServiceError as error:
            raise failures.unknown(error, self._not_found) from None
        return call.route

    async def whole(
        self, call: Call, route: Route, body: Body, sequence: Sequence = NO_SEQUENCE
    ) -> list[Reply]:
        """All parts of the answer. Raises Failure."""
        return [part async for part in self._parts(call, route, body, b"", sequence)]

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
        timeout_s = call.timeout_s(route.client_timeout_ms)
        head = EntryHead(type=body.type, headers=headers, deadline=deadlines.deadline(timeout_s))
        if route.spec.sequence_batching:
            head = in_sequence(head, sequence.name, sequence.ends)
        try:
            self._begin(route, request_id, EntryFields(body.content, head), stream)
            part = await first_part(stream, timeout_s)
            route.backlog.waiting -= 1
            while part.more:
                yield _checked(part)
                part = await stream.next()
            yield _checked(part)
        except DeadlineExceeded as error:
            self._predictor.cancel(request_id, error.status)
            raise failures.failed(error) from None
        except ServiceError as error:
            log.warning("request %s: %s", request_id.decode(), error.message)
            raise failures.failed(error) from None
        finally:
            self._predictor.cancel(request_id)

    def _begin(self, route: Route, request_id: bytes, fields: EntryFields, stream: ReplyStream) -> None:
        try:
            self._predictor.begin(route, request_id, fields, stream)
        except ServiceError as error:
            raise failures.refused(error) from None


def _checked(part: Reply) -> Reply:
    """Raises Failure for an error."""
    if part.status >= 400:
        raise failures.of_reply(part)
    return part
