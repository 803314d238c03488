"""How a prediction is queued: token, route, limits, deadline, entry fields and cancellation, in one place.

Whatever waits for the answer is a sink (`marq.queue.pending.Waiting`): the socket of the fast path, an ASGI
response, later a gRPC stream or a step of a workflow. A sink is filled from the event loop's thread.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from gateway.asgi import Headers, content_type, encode_headers, too_large
from gateway.auth import Tokens
from gateway.inference import deadlines
from gateway.routing.routes import Route, Routes
from marq.errors import ServiceError
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, Reply
from marq.queue.pending import Waiting
from marq.registry.tokens import INFERENCE


class Hook(Protocol):
    """Sees each prediction. A hook may refuse one by raising ServiceError in `before`."""

    def before(self, route: Route, fields: EntryFields) -> None:
        """Called before a prediction is queued."""

    def after(self, route: Route, fields: EntryFields, status: int, seconds: float) -> None:
        """Called with the final status when the answer is complete, or has failed."""


class Predictor:
    """Queues predictions. All gateways of a process share one."""

    def __init__(
        self,
        routes: Routes,
        broker: Broker,
        tokens: Tokens,
        max_request_size: int,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.max_request_size = max_request_size
        self._routes, self._broker, self._tokens, self._hooks = routes, broker, tokens, hooks

    def authorize(self, headers: Headers) -> None:
        """Raises InvalidToken if the headers lack the token of the inference API, and one is required."""
        if self._tokens.required:
            self._tokens.check(INFERENCE, headers)

    def hot_route(self, url: bytes) -> Route | None:
        """The route of a URL that needs no further thought, else None."""
        route = self._routes.urls.get(url)
        return None if route is None or route.client_timeout_ms else route

    def find(self, model: str, version: str | None) -> Route:
        """The route of a model that can be run. Raises ModelNotFound or another ServiceError."""
        route = self._routes.find(model, version)
        route.check()
        return route

    def begin(self, route: Route, request_id: bytes, fields: EntryFields, sink: Waiting) -> None:
        """Queues a prediction whose answer goes to the sink.

        Raises ServiceError if it cannot be queued; then the sink gets nothing.
        """
        route.check()
        size = len(fields.body)
        if size > self.max_request_size:
            raise too_large(size, self.max_request_size)
        if self._hooks:
            sink = self._observed(route, fields, sink)
        route.backlog.admit(size)
        try:
            self._broker.queue(route.lane, request_id, fields.flat(), sink)
        except ServiceError:
            route.backlog.forgo(size)
            raise

    def cancel(self, request_id: bytes) -> None:
        """The client has gone: a queued request leaves its lane, a streamed answer stops."""
        self._broker.withdraw(request_id)

    def _observed(self, route: Route, fields: EntryFields, sink: Waiting) -> Waiting:
        for hook in self._hooks:
            hook.before(route, fields)
        return ObservedSink(route, fields, sink, self._hooks)


class ObservedSink:
    """A sink whose answer the hooks see, too; the last hook first."""

    lane = entry = b""

    def __init__(self, route: Route, fields: EntryFields, sink: Waiting, hooks: Sequence[Hook]) -> None:
        self._route, self._fields, self._sink, self._hooks = route, fields, sink, hooks
        self._status, self._began = 0, time.monotonic()

    def done(self) -> bool:
        return self._sink.done()

    def set_part(self, part: Reply, /) -> None:
        self._status = self._status or part.status
        self._sink.set_part(part)

    def set_result(self, reply: Reply, /) -> None:
        self._sink.set_result(reply)
        self._end(self._status or reply.status)

    def set_exception(self, error: Exception, /) -> None:
        self._sink.set_exception(error)
        self._end(error.status if isinstance(error, ServiceError) else ServiceError.status)

    def _end(self, status: int) -> None:
        for hook in reversed(self._hooks):
            hook.after(self._route, self._fields, status, time.monotonic() - self._began)


def entry_fields(
    headers: Headers, body: bytes, path: str | None, params: bytes = b"", timeout_s: float | None = None
) -> EntryFields:
    """The fields of a request that came over HTTP. `timeout_s`: it never starts later than that."""
    return EntryFields(
        body, content_type(headers), encode_headers(headers), None if path is None else path.encode(), params,
        deadlines.deadline_ms(timeout_s),
    )  # fmt: skip
