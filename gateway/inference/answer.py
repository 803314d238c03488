"""The ASGI endpoint of every URL that runs a model: from the request to its answer, whole or streamed.

Most predictions never come here: `gateway.http.fast_path` answers them.
"""

import asyncio
import logging
from typing import TypeVar
from urllib.parse import parse_qs, quote

import anyio
import anyio.to_thread
import orjson
from starlette.types import Receive, Scope, Send

from gateway.asgi import (
    JSON_TYPE,
    Headers,
    access_of,
    client_headers,
    content_type,
    header_lines,
    reply_headers,
    respond,
    respond_error,
)
from gateway.inference import binary_tensors, deadlines, job_headers
from gateway.inference.answer_parts import first_part, send_parts, watch
from gateway.inference.predictor import Predictor
from gateway.inference.urls import Target
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq import forms
from marq.errors import (
    BadReply,
    BadRequest,
    DeadlineExceeded,
    RequestTooLarge,
    ServiceError,
)
from marq.payloads.folder import Upload
from marq.plugins.protocols import INFERENCE
from marq.queue import job_records
from marq.queue.entries import EntryFields
from marq.queue.ids import new_id
from marq.queue.replies.parts import ReplyStream
from marq.reply_rules import is_final_status

log = logging.getLogger(__name__)

SMALL = 65_536  # bytes of a form or of tensors
BODY_READERS = 2  # threads for larger ones
B = TypeVar("B", bytes, bytes | Upload)
MODEL_NAME = "model_name"  # of `/invocations`: a query parameter or a field of a form


class Inference:
    """Queues the request as it came, waits for the reply, sends it on, whatever its method and body."""

    def __init__(self, predictor: Predictor, routes: Routes, most_form_fields: int) -> None:
        self._predictor, self._routes = predictor, routes
        self._most_form_fields = most_form_fields
        self._body_readers = anyio.CapacityLimiter(BODY_READERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, target: Target) -> None:
        request_id = new_id()
        try:
            headers = client_headers(scope)
            wait_s = job_headers.async_wait_s(headers)
            if wait_s is not None:
                await self._answer_later(scope, receive, send, target, request_id, wait_s)
                return
            route, body = await self._read(scope, receive, target, request_id)
            headers, body = await self._without_binary(headers, body, target)
            route = route.at(job_headers.priority(headers))
            timeout_s = deadlines.timeout_s(headers, route.client_timeout_ms)
            params = scope["query_string"] if target.takes_query else b""
            path = None if target.path is None else target.path.encode()
            head = self._predictor.entry_head(target.headers(headers), path, params, timeout_s)
            head = self._predictor.in_sequence(route, head, headers)
            fields = EntryFields(body, head) if isinstance(body, bytes) else EntryFields(b"", head, body)
            await self._answer(receive, send, route, request_id, fields, timeout_s)
        except ServiceError as error:
            if isinstance(error, BadReply):
                log.error("request %s: %s", request_id.decode(), error.message)
            await respond_error(send, error, request_id)
        finally:
            self._predictor.cancel(request_id)

    async def _answer_later(
        self, scope: Scope, receive: Receive, send: Send, target: Target, request_id: bytes, wait_s: float
    ) -> None:
        """Queues a job, and sends its result if it is there in time, else its place (RFC 7240)."""
        headers = client_headers(scope)
        access = access_of(scope, INFERENCE)
        options, key = job_headers.options(headers), job_headers.idempotency_key(headers)
        body: bytes | Upload
        if model := target.model or self._named(scope["query_string"]):
            route = await self._predictor.find(access, model, target.version)
            if _binary_size(headers, target) is None:
                body = await self._predictor.read_job(route, scope, receive, key)
            else:
                body = await self._predictor.uploads.read(scope, receive)
        else:
            await self._predictor.authorize(access)
            body = form = await self._predictor.uploads.read(scope, receive)
            route = await self._predictor.find(access, await self._named_by(headers, form), target.version)
        headers, body = await self._without_binary(headers, body, target)
        route = route.at(options.priority)
        params = scope["query_string"] if target.takes_query else b""
        path = None if target.path is None else target.path.encode()
        start_within_s = job_headers.start_within_s(headers, options.not_before)
        options = options.of_model(route.spec.webhook_url)
        head = self._predictor.entry_head(target.headers(headers), path, params, start_within_s, options)
        head = self._predictor.in_sequence(route, head, headers)
        fields = EntryFields(body, head) if isinstance(body, bytes) else EntryFields(b"", head, body)
        job_id = await self._predictor.submit(route, fields, key)
        jobs = self._predictor.jobs
        record = await jobs.with_body(await jobs.wait(job_id, wait_s))
        location = (b"location", f"/jobs/{quote(job_id, safe=':')}".encode())
        applied = b"respond-async, wait=%d" % wait_s if wait_s else b"respond-async"
        own = [(b"preference-applied", applied), location]
        if not record.is_finished or record.state == job_records.CANCELLED:
            await respond(send, 202, orjson.dumps({"job_id": job_id}), [JSON_TYPE, *own], request_id)
        elif is_final_status(record.status or 200):
            lines = [*header_lines(record.headers), *own]
            await respond(send, record.status or 200, record.body or b"", lines, request_id)
        else:
            raise BadReply(f"The status of the job's result is {record.status}, which HTTP does not allow.")

    async def _read(
        self, scope: Scope, receive: Receive, target: Target, request_id: bytes
    ) -> tuple[Route, bytes | Upload]:
        """Refuses before the body is read, where the URL says enough."""
        headers, find, access = scope["headers"], self._predictor.find, access_of(scope, INFERENCE)
        if model := target.model or self._named(scope["query_string"]):
            route = await find(access, model, target.version)
            route.check()
            body: bytes | Upload
            if _binary_size(headers, target) is None:
                body = await self._predictor.read(route, request_id, scope, receive)
            else:
                body = await self._predictor.uploads.read(scope, receive)
            return await find(access, model, target.version), body
        await self._predictor.authorize(access)
        form = await self._predictor.uploads.read(scope, receive)
        return await find(access, await self._named_by(headers, form), target.version), form

    async def _without_binary(self, headers: Headers, body: B, target: Target) -> tuple[Headers, B | bytes]:
        """Headers and body of a request whose tensors are all in its JSON. Raises BadRequest."""
        size = _binary_size(headers, target)
        if size is None or not isinstance(body, bytes):
            return headers, body
        if len(body) <= SMALL:
            content = binary_tensors.to_json(body, size)
        else:
            reading = anyio.to_thread.run_sync(binary_tensors.to_json, body, size, limiter=self._body_readers)
            content = await reading
        return binary_tensors.headers_of_json(headers), content

    async def _named_by(self, headers: Headers, body: bytes) -> str:
        """The model that a form names; a large form is read in a thread, so that other requests go on."""
        arguments = content_type(headers), body, self._most_form_fields
        if len(body) <= SMALL:
            return _named_in_form(*arguments)
        return await anyio.to_thread.run_sync(_named_in_form, *arguments, limiter=self._body_readers)

    def _named(self, query: bytes) -> str:
        """The model of `/invocations`: the query's, or the only one that the server was started with."""
        named = parse_qs(query.decode("latin-1")).get(MODEL_NAME, [""])[-1]
        startup = self._routes.startup_models
        return named or (startup[0] if len(startup) == 1 else "")

    async def _answer(
        self, receive: Receive, send: Send, route: Route, request_id: bytes, fields: EntryFields,
        timeout_s: float | None,
    ) -> None:  # fmt: skip
        """Sends the answer as it comes. A client that goes away cancels its request."""
        stream = ReplyStream()
        watching: asyncio.Task[None] | None = None
        try:
            self._predictor.begin(route, request_id, fields, stream)
            watching = asyncio.create_task(watch(receive, stream))
            first = await first_part(stream, timeout_s)
            route.backlog.waiting -= 1
            headers = reply_headers(first.headers)
            if first.more:
                await send_parts(send, first, headers, stream, request_id)
            else:
                await respond(send, first.status, first.body, headers, request_id)
        except DeadlineExceeded as error:
            self._predictor.cancel(request_id, error.status)
            raise
        finally:
            if watching:
                watching.cancel()
            self._predictor.cancel(request_id)  # before the error is sent


def _binary_size(headers: Headers, target: Target) -> int | None:
    """The size of the JSON of a request with binary tensors, else None."""
    return binary_tensors.json_size(headers) if target.has_tensors else None


def _named_in_form(kind: bytes, body: bytes, most_fields: int) -> str:
    """The model that a form names. Raises BadRequest, or RequestTooLarge for a form of too many fields."""
    try:
        name = forms.value(kind, body, MODEL_NAME, most_fields)
    except forms.FormTooLarge as error:
        raise RequestTooLarge(str(error)) from None
    if name:
        return name.decode("utf-8", "replace")
    raise BadRequest("Parameter model_name is required.")
