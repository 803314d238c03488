"""Runs of workflows as jobs: `POST /jobs/{workflow}`."""

from gateway.asgi import Headers
from gateway.inference import job_headers
from gateway.inference.predictor import Predictor
from gateway.uploads import too_large
from gateway.workflows.admission import Admission
from gateway.workflows.known import KnownWorkflows
from marq.errors import ServiceError, WorkflowNotFound
from marq.jobs.options import JobOptions
from marq.queue.entries import EntryFields
from marq.queue.ids import new_id
from marq.queue.jobs import KeyedRequest
from marq.workflows.runs import Runs


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

    async def submit(self, name: str, headers: Headers, body: bytes, options: JobOptions, key: str) -> str:
        """Starts a run; returns the job's public id. With an idempotency key, a run is started once.

        Raises ServiceError.
        """
        workflow = self._known.get(name)
        options.refuse_urls("A workflow has")
        if len(body) > self._predictor.max_request_size:
            raise too_large(len(body), self._predictor.max_request_size)
        head = self._predictor.entry_head(headers, None, timeout_s=job_headers.start_within_s(headers))
        fields = EntryFields(body, head)
        request = KeyedRequest(name, None, key, fields) if key else None
        route = self._admission.check_job(workflow).at(options.priority)
        route.admit_job(len(body))
        try:
            run_id = request.id if request else new_id()
            job_id, is_new = await self._runs.submit(workflow, run_id, fields, options, request)
        except ServiceError:
            route.backlog.forgo(len(body))
            raise
        if not is_new:
            route.backlog.forgo(len(body))
        return job_id
