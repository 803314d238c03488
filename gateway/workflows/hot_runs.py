"""Runs of workflows that are started and answered inside the HTTP protocol, without an ASGI call for each.

Unusual requests, as those with large bodies, a time-out or a priority, and those that are refused, take the
ASGI endpoint (`predictions`).
"""

import asyncio
import logging

from gateway.asgi import JSON_TYPE, Headers
from gateway.http.exchange import Exchange, Responder, lines
from gateway.inference.predictor import CLIENT_GONE, Predictor, RunEnd
from gateway.workflows.admission import Admission, Nodes
from gateway.workflows.known import KnownWorkflows
from gateway.workflows.predictions import Run, body_of
from marq import keys
from marq.errors import ServiceError
from marq.payloads.folder import Upload
from marq.queue.entries import EntryFields
from marq.queue.replies.entries import Reply
from marq.workflows.runs import Runs
from marq.workflows.spec import Workflow

log = logging.getLogger(__name__)

HEADERS = lines([JSON_TYPE])


class HotRuns:
    """The parts that all runs of a gateway process share."""

    def __init__(self, predictor: Predictor, admission: Admission, known: KnownWorkflows, runs: Runs) -> None:
        self.predictor, self.runs = predictor, runs
        self._admission, self._known = admission, known
        self._tasks: set[asyncio.Task[None]] = set()

    def exchange(self, protocol: Responder, headers: Headers, method: bytes) -> "RunExchange | None":
        """That of the protocol's URL; None for another URL, or where a run needs more than a look-up."""
        url = protocol.url
        workflow = self._known.urls.get(url)
        if workflow is None or not self.predictor.admits_run(url, headers, method, workflow.name):
            return None
        try:
            nodes = self._admission.check(workflow)
        except ServiceError:
            return None
        if nodes.start.client_timeout_ms:
            return None
        return RunExchange(protocol, workflow, nodes, method, self)

    def cancel(self, run: Run) -> None:
        """Ends a run whose answer is not awaited any more."""
        task = asyncio.create_task(self._cancel(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel(self, run: Run) -> None:
        try:
            await self.runs.cancel(run.workflow, run.id)
        except ServiceError as error:
            log.debug("run %s could not be cancelled: %s", run.id.decode(), error)
        finally:
            self.forget_files(run)

    def forget_files(self, run: Run) -> None:
        """Removes the files of a run that has ended."""
        if run.store:
            self.runs.forget_files(run.id)


class RunExchange(Exchange):
    """One run in flight, and the sink of its answer."""

    takes_buffers = is_prediction = False
    _awaited = False  # whether it was begun, and has no end yet
    _started = _withdrawn = False  # whether Redis has confirmed the start; whether the run is cancelled then
    _end: RunEnd

    def __init__(
        self, protocol: Responder, workflow: Workflow, nodes: Nodes, method: bytes, hot: HotRuns
    ) -> None:
        super().__init__(protocol, nodes.start, method)
        store = hot.runs.folder if nodes.share_files else ""
        self._run, self._hot, self._size = Run(self.request_id, workflow, nodes, store), hot, 0

    def begin_upload(self, predictor: Predictor, size: int) -> Upload | None:  # noqa: ARG002
        """None: a large body takes the ASGI endpoint."""
        return None

    def begin(self, predictor: Predictor, fields: EntryFields) -> None:
        """Observers see the end in any case. Raises ServiceError."""
        run, self._size = self._run, fields.size
        self._end = predictor.begin_run(run.workflow.name, self.route, fields)
        try:
            self.route.backlog.admit(self._size)
        except ServiceError as error:
            self._end(error.status, 0)
            raise
        self._awaited = True
        self._hot.runs.begin(run.workflow, run.id, fields, keys.NORMAL, self, self._on_started, run.store)

    def cancel(self, predictor: Predictor, status: int = CLIENT_GONE) -> None:  # noqa: ARG002
        """The client takes no answer any more."""
        if self._awaited:
            self._withdraw(status)

    def set_result(self, reply: Reply) -> None:
        if not self._awaited:
            return
        body = body_of(self._run.workflow, reply)
        self.route.backlog.waiting -= 1
        self._close(reply.status, len(body))
        self._hot.forget_files(self._run)
        self._respond(reply.status, body, HEADERS)

    def set_exception(self, error: Exception) -> None:
        """There will be no answer, or the request was refused."""
        if self._awaited:
            self._withdraw(error.status if isinstance(error, ServiceError) else ServiceError.status)
        super().set_exception(error)

    def _on_started(self, error: ServiceError | None) -> None:
        """Redis has confirmed the start, or refused it. The answer may have come before."""
        self._started = True
        if self._withdrawn:
            self._hot.cancel(self._run)
        elif error and self._awaited:
            self.route.backlog.forgo(self._size)
            self._close(error.status, 0)
            super().set_exception(error)

    def _withdraw(self, status: int) -> None:
        self.route.backlog.waiting -= 1
        self._close(status, 0)
        self._withdrawn = True
        if self._started:
            self._hot.cancel(self._run)

    def _close(self, status: int, answer_bytes: int) -> None:
        self._awaited = False
        self._end(status, answer_bytes)
