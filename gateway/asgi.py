"""Shared parts of the raw ASGI endpoints: types, headers, responses, reports of answers."""

import time
from collections.abc import Callable, Iterable, Mapping

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import common_headers
from marq.errors import BadReply, ServiceError
from marq.plugins.protocols import Access
from marq.reply_rules import WITHOUT_BODY, WITHOUT_LENGTH, header_fault, is_servers_own

Headers = list[tuple[bytes, bytes]]
Document = dict[str, object]  # a JSON object
Responses = dict[int | str, Document]  # of an OpenAPI document, by status

CLIENT_HEADERS = "marq.headers"  # of a scope; `headers` has the names in lower case
SUBJECT = "marq.subject"  # of a scope: the common name of the client's certificate
# marq's: standard HTTP, where TorchServe's routes keep TorchServe's statuses
OWN_ROUTES = ("/jobs", "/dead-letters", "/webhooks", "/v1/files", "/v1/batches")
Report = Callable[[int, float], None]  # status, or 0 if there was no answer; seconds
JSON_TYPE = (b"content-type", b"application/json")


class Watched:
    """An application whose answers are reported. `watch` is called with each request before its answer."""

    def __init__(self, app: ASGIApp, watch: Callable[[Scope], Report]) -> None:
        self._app, self._watch = app, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began, report = 0, time.monotonic(), self._watch(scope)

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            report(status, time.monotonic() - began)


def client_headers(scope: Scope) -> Headers:
    """The request's headers with their names as the client wrote them, where the server has kept these."""
    headers: Headers = scope.get(CLIENT_HEADERS) or scope["headers"]
    return headers


def access_of(scope: Scope, plane: str, model: str = "", version: str | None = None) -> Access:
    """The request as authorizers judge it."""
    return Access(
        plane, scope["method"], scope["path"], client_headers(scope), model, version, scope.get(SUBJECT, "")
    )


def encode_headers(headers: Iterable[tuple[bytes, bytes]], withheld: bytes = b"") -> bytes:
    """Headers as the JSON object of the queue contract; of a repeated name, the last one counts."""
    return orjson.dumps(
        {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if not withheld or name.lower() != withheld
        }
    )


def content_type(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name.lower() == b"content-type":
            return value
    return b""


async def respond(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]], request_id: bytes
) -> None:
    """A whole response with the headers that every answer carries."""
    if status in WITHOUT_BODY:
        body = b""
    length = [] if status in WITHOUT_LENGTH else [(b"content-length", b"%d" % len(body))]
    own = [*common_headers.of_answer(request_id), *length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: ServiceError, request_id: bytes) -> None:
    await respond(send, error.status, error.body(), error_headers(error), request_id)


def error_headers(error: ServiceError) -> Headers:
    own = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return [JSON_TYPE, *own]


def reply_headers(encoded: bytes) -> Headers:
    """The header lines of a reply. Replicas check theirs; a foreign writer may not: raises BadReply."""
    try:
        headers = orjson.loads(encoded) if encoded else {}
    except ValueError:
        headers = None
    if not isinstance(headers, dict):
        raise BadReply("The reply's headers are not a JSON object.")
    return header_lines(headers)


def header_lines(headers: Mapping[str, object]) -> Headers:
    """A reply's headers as ASGI wants them, without the server's own. Raises BadReply."""
    lines: Headers = []
    for name, value in headers.items():
        if fault := header_fault(name, value):
            raise BadReply(f"The reply cannot be sent: {fault}.")
        if not is_servers_own(name):
            lines.append((name.lower().encode("latin-1"), str(value).encode("latin-1", "replace")))
    return lines
