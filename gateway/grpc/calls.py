"""gRPC calls: deadline, metadata, and an outcome that is counted and logged."""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message

from gateway.asgi import Headers
from gateway.grpc.arrivals import Arrivals, Context, decoded
from gateway.grpc.failures import Failure, number_of, unreadable
from gateway.http.access_log import AccessLog
from gateway.inference.predictor import CLIENT_GONE
from gateway.metrics.counting import RequestMeter
from gateway.routing.route import Route
from marq.plugins.protocols import INFERENCE, Access

log = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Message | None, Message]"
Run = Callable[..., Awaitable[Message | None]]  # of a request, or an iterator of requests, and the Call
CANCELLED = grpc.StatusCode.CANCELLED


class Call:
    """One call. A service sets its `route`, for the metrics."""

    __slots__ = ("_context", "_peer", "code", "name", "route", "status")

    def __init__(self, context: Context, name: str) -> None:
        self._context, self.name = context, name
        self._peer: str = context.peer()  # not known after the end
        self.route: Route | None = None
        self.status, self.code = CLIENT_GONE, number_of(CANCELLED)  # unless it ends otherwise

    @property
    def headers(self) -> Headers:
        """The metadata, as the headers of an HTTP request."""
        return [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in self._context.invocation_metadata() or ()
        ]

    @property
    def subject(self) -> str:
        """The common name of the client's certificate; empty if it has none."""
        names = self._context.auth_context().get("x509_common_name", ())
        return next(iter(names), b"").decode("utf-8", "replace")

    @property
    def access(self) -> Access:
        """The call as authorizers judge it."""
        return Access(INFERENCE, "gRPC", f"/{self.name}", self.headers, subject=self.subject)

    def timeout_s(self, limit_ms: int) -> float | None:
        """The shorter of the time until the client's deadline and `limit_ms`; 0 and None: no limit."""
        limits = [limit_ms / 1000] if limit_ms else []
        left: float | None = self._context.time_remaining()
        if left is not None:
            limits.append(max(left, 0.001))
        return min(limits, default=None)

    async def write(self, message: Message) -> None:
        """Sends one message of a stream; waits while the client does not read."""
        await self._context.write(message)

    @property
    def peer(self) -> str:
        """host:port of the client, as in the access log; `-` if it came through a Unix socket."""
        kind, _, address = self._peer.partition(":")
        return unquote(address).strip() if kind in ("ipv4", "ipv6") else "-"


class Method(NamedTuple):
    """One method of a service.

    `kind` counts the calls that are for no model; `streams`: whether the request and the answer are streams.
    In a stream of requests, None stands for bytes that are not one.
    """

    run: Run
    request: type[Message]
    response: type[Message]
    kind: str
    streams: tuple[bool, bool] = (False, False)


class Calls:
    """Makes the handlers of services: their errors become statuses, and each call is counted and logged."""

    def __init__(self, meter: RequestMeter, access_log: AccessLog | None, arrivals: Arrivals) -> None:
        self._meter, self._access_log, self._arrivals = meter, access_log, arrivals

    def service(self, name: str, methods: dict[str, Method]) -> grpc.GenericRpcHandler:
        """The handlers of a service."""
        handlers = {f"/{name}/{each}": self._handler(f"{name}/{each}", methods[each]) for each in methods}
        return _Service(handlers)

    def _handler(self, name: str, method: Method) -> Callable[[], Handler]:
        """A function that gives the handler of one call."""
        several, parts = method.streams

        async def answer(request: object, context: Context, is_here: bool = True) -> Message | None:
            call, began = Call(context, name), time.monotonic()
            try:
                message = request if is_here else await self._arrivals.read(context)
                if message is None:
                    raise unreadable()
                response = await method.run(message, call)
                call.status = 200
                call.code = 0
                return response
            except Failure as failure:
                call.status, call.code = failure.status, failure.number
                await context.abort(failure.code, failure.text, failure.trailers)
            except Exception:
                log.exception("%s failed", name)
                call.status, call.code = 500, number_of(grpc.StatusCode.INTERNAL)
                await context.abort(grpc.StatusCode.INTERNAL, "Internal server error.")
            finally:
                self._note(name, method.kind, call, time.monotonic() - began)

        async def read_and_answer(_: object, context: Context) -> Message | None:
            return await answer(None, context, is_here=False)

        of_one = grpc.unary_stream_rpc_method_handler if parts else grpc.unary_unary_rpc_method_handler
        of_stream = grpc.stream_stream_rpc_method_handler if parts else grpc.stream_unary_rpc_method_handler
        encode, place = method.response.SerializeToString, self._arrivals.place
        whole = of_stream(answer, partial(decoded, method.request), encode)
        unread = of_stream(read_and_answer, partial(decoded, method.request), encode)

        def handler() -> Handler:
            if several:
                return whole
            kept = place()
            return of_one(answer, partial(kept.read, method.request), encode) if kept else unread

        return handler

    def _note(self, name: str, kind: str, call: Call, seconds: float) -> None:
        if call.route is not None:
            self._meter.answered(call.route, call.status, seconds)
        else:
            self._meter.count(kind, None, call.status, seconds)
        if self._access_log:
            line = self._access_log.describe(call.peer, "gRPC", name, "HTTP/2.0")
            self._access_log.add(line, call.code, seconds)


class _Service(grpc.GenericRpcHandler):
    """Gives each call a handler of its own."""

    def __init__(self, handlers: dict[str, Callable[[], Handler]]) -> None:
        self._handlers = handlers

    def service(self, call: grpc.HandlerCallDetails) -> "Handler | None":
        """The handler of a call; None if there is no such method here."""
        handler = self._handlers.get(call.method)
        return handler() if handler else None
