"""The ASGI endpoint of `/wfpredict/{workflow}`: from the request to the answer of the whole run."""

import asyncio
import json
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from gateway.asgi import JSON_TYPE, Headers, access_of, client_headers, respond, respond_error
from gateway.inference import deadlines, job_headers, urls
from gateway.inference.answer_parts import ClientGone, first_part, watch
from gateway.inference.predictor import CLIENT_GONE, Predictor
from gateway.workflows.admission import Admission, Nodes
from gateway.workflows.known import KnownWorkflows
from marq.errors import ResourceNotFound, ServiceError, pretty
from marq.payloads.folder import Upload
from marq.plugins.protocols import INFERENCE
from marq.queue.entries import EntryFields
from marq.queue.ids import new_id
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import ReplyStream
from marq.workflows.runs import Runs
from marq.workflows.spec import Workflow


@dataclass(frozen=True)
class Run:
    """One run. `store`: the folder of its files; empty where its bodies are in Redis."""

    id: bytes
    workflow: Workflow
    nodes: Nodes
    store: str


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
            nodes = self._admission.check(workflow)
            run = Run(run_id, workflow, nodes, self._runs.folder if nodes.share_files else "")
            status, answer = await self._with_files(run, headers, scope, receive)
        except ServiceError as error:
            await respond_error(send, error, run_id)
        else:
            await respond(send, status, answer, [JSON_TYPE], run_id)

    async def _with_files(
        self, run: Run, headers: Headers, scope: Scope, receive: Receive
    ) -> tuple[int, bytes]:
        """Status and body. Raises ServiceError. No file is left in any case."""
        body: bytes | Upload
        try:
            if run.store and run.workflow.takes_file:
                body = await self._predictor.read(run.nodes.start, run.id, scope, receive)
            else:
                body = await self._predictor.uploads.read(scope, receive)
            return await self._answer(run, headers, body, receive)
        finally:
            if run.store:
                self._runs.forget_files(run.id)

    async def _answer(
        self, run: Run, headers: Headers, body: bytes | Upload, receive: Receive
    ) -> tuple[int, bytes]:
        """The same. Observers see the end in any case."""
        start = run.nodes.start
        timeout_s = deadlines.timeout_s(headers, start.client_timeout_ms)
        head = self._predictor.entry_head(headers, None, timeout_s=timeout_s)
        fields = EntryFields(body, head) if isinstance(body, bytes) else EntryFields(b"", head, body)
        priority = job_headers.priority(headers)
        end = self._predictor.begin_run(run.workflow.name, start, fields)
        status, answer = CLIENT_GONE, b""
        try:
            reply = await self._wait(run, fields, priority, timeout_s, receive)
            status, answer = reply.status, body_of(run.workflow, reply)
        except ServiceError as error:
            status = CLIENT_GONE if isinstance(error, ClientGone) else error.status
            raise
        finally:
            end(status, len(answer))
        return status, answer

    async def _wait(
        self, run: Run, fields: EntryFields, priority: str, timeout_s: float | None, receive: Receive
    ) -> Reply:
        """Raises ServiceError. A client that goes away cancels the run."""
        stream, size, backlog = ReplyStream(), fields.size, run.nodes.start.backlog
        backlog.admit(size)
        try:
            await self._runs.start(run.workflow, run.id, fields, priority, stream, run.store)
        except ServiceError:
            backlog.forgo(size)
            raise
        watching = asyncio.create_task(watch(receive, stream))
        try:
            reply = await first_part(stream, timeout_s)
        except ServiceError:
            await self._runs.cancel(run.workflow, run.id)
            raise
        finally:
            watching.cancel()
            backlog.waiting -= 1
        return reply


def body_of(workflow: Workflow, reply: Reply) -> bytes:
    """The answers of several leaves as TorchServe prints them."""
    body = bytes(reply.body)
    return body if reply.status != 200 or len(workflow.graph.leaves) == 1 else pretty(json.loads(body))
