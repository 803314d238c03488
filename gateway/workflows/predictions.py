"""The ASGI endpoint of `/wfpredict/{workflow}`: from the request to the answer of the whole run."""

import asyncio
import json

from starlette.types import Receive, Scope, Send

from gateway.asgi import JSON_TYPE, Headers, access_of, client_headers, respond, respond_error
from gateway.inference import deadlines, job_headers, urls
from gateway.inference.answer import ClientGone, first_part, watch
from gateway.inference.predictor import CLIENT_GONE, Predictor
from gateway.routing.routes import Route
from gateway.workflows.admission import Admission
from gateway.workflows.known import KnownWorkflows
from marq.errors import ResourceNotFound, ServiceError, pretty
from marq.plugins.protocols import INFERENCE
from marq.queue.entries import EntryFields, Reply
from marq.queue.ids import new_id
from marq.queue.reply_stream import ReplyStream
from marq.workflows.runs import Runs
from marq.workflows.spec import Workflow


class WorkflowPredictions:
    """Starts a run, waits for its end, sends its answer, whatever the method of the request."""

    def __init__(self, predictor: Predictor, admission: Admission, known: KnownWorkflows, runs: Runs) -> None:
        self._predictor, self._admission, self._known, self._runs = predictor, admission, known, runs

    async def __call__(self, scope: Scope, receive: Receive, send: Send, segments: list[str]) -> None:
        run_id = new_id()
        try:
            headers = client_headers(scope)
            await self._predictor.authorize(access_of(scope, INFERENCE, *urls.model_of(scope)))
            if len(segments) < 2:
                raise ResourceNotFound
            workflow = self._known.get(segments[1])
            route = self._admission.check(workflow)
            body = await self._predictor.uploads.read(scope, receive)
            status, answer = await self._answer(workflow, route, run_id, headers, body, receive)
        except ServiceError as error:
            await respond_error(send, error, run_id)
        else:
            await respond(send, status, answer, [JSON_TYPE], run_id)

    async def _answer(
        self, workflow: Workflow, route: Route, run_id: bytes, headers: Headers, body: bytes, receive: Receive
    ) -> tuple[int, bytes]:
        """Status and body. Raises ServiceError. Observers see the end in any case."""
        timeout_s = deadlines.timeout_s(headers, route.client_timeout_ms)
        fields = EntryFields(body, self._predictor.entry_head(headers, None, timeout_s=timeout_s))
        priority = job_headers.priority(headers)
        end = self._predictor.begin_run(workflow.name, route, fields)
        status, answer = CLIENT_GONE, b""
        try:
            reply = await self._run(workflow, route, run_id, fields, priority, timeout_s, receive)
            status, answer = reply.status, _body(workflow, reply)
        except ServiceError as error:
            status = CLIENT_GONE if isinstance(error, ClientGone) else error.status
            raise
        finally:
            end(status, len(answer))
        return status, answer

    async def _run(
        self, workflow: Workflow, route: Route, run_id: bytes, fields: EntryFields, priority: str,
        timeout_s: float | None, receive: Receive,
    ) -> Reply:  # fmt: skip
        """Raises ServiceError. A client that goes away cancels the run."""
        stream, size = ReplyStream(), len(fields.body)
        route.backlog.admit(size)
        try:
            await self._runs.start(workflow, run_id, fields, priority, stream)
        except ServiceError:
            route.backlog.forgo(size)
            raise
        watching = asyncio.create_task(watch(receive, stream))
        try:
            reply = await first_part(stream, timeout_s)
        except ServiceError:
            await self._runs.cancel(workflow, run_id)
            raise
        finally:
            watching.cancel()
            route.backlog.waiting -= 1
        return reply


def _body(workflow: Workflow, reply: Reply) -> bytes:
    """The answers of several leaves as TorchServe prints them."""
    body = bytes(reply.body)
    return body if reply.status != 200 or len(workflow.graph.leaves) == 1 else pretty(json.loads(body))
