"""How a prediction is queued: token, route, limits, deadline, entry fields and cancellation, in one place.

Whatever waits for the answer is a sink (`marq.queue.pending.Waiting`): the socket of the fast path, an ASGI
response, later a gRPC stream or a step of a workflow. A sink is filled from the event loop's thread.
"""

from gateway.asgi import Headers, content_type, encode_headers, too_large
from gateway.auth import Tokens
from gateway.inference import deadlines
from gateway.routing.routes import Route, Routes
from marq.errors import ServiceError
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.pending import Waiting
from marq.registry.tokens import INFERENCE

CLIENT_GONE = 499  # the status of a prediction whose client went away before its answer


class Predictor:
    """Queues predictions. All gateways of a process share one."""

    def __init__(
        self,
        routes: Routes,
        broker: Broker,
        tokens: Tokens,
        max_request_size: int,
    ) -> None:
        self.max_request_size = max_request_size
        self._routes, self._broker, self._tokens = routes, broker, tokens

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
        route.backlog.admit(size)
        try:
            self._broker.queue(route.lane, request_id, fields.flat(), sink)
        except ServiceError:
            route.backlog.forgo(size)
            raise

    def cancel(self, request_id: bytes, status: int = CLIENT_GONE) -> None:  # noqa: ARG002 - for hooks
        """The client takes no answer any more: a queued request leaves its lane, a streamed answer stops.

        `status` says why: the client has gone, or was answered with an error. Does nothing after the end.
        """
        self._broker.withdraw(request_id)


def entry_fields(
    headers: Headers, body: bytes, path: str | None, params: bytes = b"", timeout_s: float | None = None
) -> EntryFields:
    """The fields of a request that came over HTTP. `timeout_s`: it never starts later than that."""
    return EntryFields(
        body, content_type(headers), encode_headers(headers), None if path is None else path.encode(), params,
        deadlines.deadline_ms(timeout_s),
    )  # fmt: skip
