"""Runs of workflows as jobs: `POST /jobs/{workflow}`."""

import asyncio
from http import HTTPStatus

from starlette.types import Receive, Scope

from gateway.asgi import client_headers
from gateway.inference import job_headers
from gateway.inference.job_intake import in_file, read_job
from gateway.inference.predictor import CLIENT_GONE, Predictor
from gateway.routing.route import Route
from gateway.workflows.admission import Admission
from gateway.workflows.known import KnownWorkflows
from marq.errors import QueueUnavailable, ServiceError, WorkflowNotFound
from marq.jobs.options import JobOptions
from marq.jobs.submission import KeyedRequest, keyed_id
from marq.payloads.job_uploads import JobUploads
from marq.queue.entries import EntryFields
from marq.queue.ids import new_id
from marq.workflows.runs import Runs
from marq.workflows.spec import Workflow


class WorkflowJobs:
    """Starts runs whose results are kept."""

    def __init__(self, predictor: Predictor, admission: Admission, known: KnownWorkflows, runs: Runs) -> None:
        self._predictor, self._admission, self._known, self._runs = predictor, admission, known, runs

    def knows(self, name: str) -> bool:
        """Whether a workflow of that name is registered."""
        try:
            self._known.get(name)
        except WorkflowNotFound:
            return False
        return True

    async def submit(self, name: str, scope: Scope, receive: Receive, options: JobOptions, key: str) -> str:
        """Starts a run; returns the job's public id. With an idempotency key, a run is started once.

        Raises ServiceError.
        """
        workflow = self._known.get(name)
        options.refuse_urls("A workflow has")
        self._predictor.url_rules.check_webhook(options.webhook)
        nodes = self._admission.check_job(workflow)
        files = self._predictor.jobs.uploads if nodes.keep_files else None
        run_id = keyed_id(name, key) if key else new_id()
        fields = await self._read(workflow, run_id, scope, receive, files)
        of_body = files.files if files and fields.file is not None else None
        request = KeyedRequest(name, None, key, fields, of_body) if key else None
        if request and of_body:
            await asyncio.to_thread(lambda: request.digest)  # it reads the body
        store = files.files.identity if files else ""
        is_new, status, route = True, CLIENT_GONE, nodes.start.at(options.priority)
        queued = self._predictor.begin_run(name, route, fields, is_job=True)
        try:
            job_id, is_new = await self._start(route, workflow, run_id, fields, options, request, store)
            status = HTTPStatus.ACCEPTED
        except ServiceError as error:
            # Redis may have started the run whose answer was lost: the node removes the file if it has not
            is_new, status = isinstance(error, QueueUnavailable), error.status
            raise
        finally:
            queued(status, 0)
            if files and fields.file is not None and not is_new:
                files.discard(fields.file)
        return job_id

    async def _read(
        self, workflow: Workflow, run_id: bytes, scope: Scope, receive: Receive, files: JobUploads | None
    ) -> EntryFields:
        """The client's request, with its body in a file if it is large and may be one."""
        headers, uploads = client_headers(scope), self._predictor.uploads
        head = self._predictor.entry_head(headers, None, timeout_s=job_headers.start_within_s(headers))
        if files is None or not workflow.takes_file:
            return EntryFields(await uploads.read(scope, receive), head)
        body = await read_job(uploads, files, workflow.name, run_id, scope, receive)
        fields = EntryFields(body, head) if isinstance(body, bytes) else EntryFields(b"", head, body)
        return await in_file(files, workflow.name, run_id, fields)

    async def _start(
        self, route: Route, workflow: Workflow, run_id: bytes, fields: EntryFields, options: JobOptions,
        request: KeyedRequest | None, store: str,
    ) -> tuple[str, bool]:  # fmt: skip
        """Starts a run within the limits of its route, where it counts only if it is new."""
        route.admit_job(fields.size)
        is_new = False
        try:
            job_id, is_new = await self._runs.submit(workflow, run_id, fields, options, request, store)
        finally:
            if not is_new:
                route.backlog.forgo(fields.size)
        return job_id, is_new
