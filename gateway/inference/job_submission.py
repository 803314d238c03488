"""`POST /jobs/...`: queues jobs, and failed ones again."""

from typing import Annotated, Protocol
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Receive, Scope

from gateway.asgi import access_of, client_headers
from gateway.inference import job_headers
from gateway.inference.predictor import Predictor
from gateway.inference.urls import Target
from marq.errors import ModelNotFound, ServiceError
from marq.jobs.jobs import Jobs
from marq.jobs.options import JobOptions
from marq.plugins.protocols import INFERENCE
from marq.queue.entries import EntryFields

JobIdPath = Annotated[str, Path(description="As returned by `POST /jobs/{model}`.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=job_headers.LONGEST_KEY,
        description="The same key returns the same job while its record is kept, however full the queue is; "
        "with another body, content type or version: 422.",
    ),
]  # fmt: skip
EXPLAIN = ":explain"


class JobIdConvertor(Convertor[str]):
    """Tells `/jobs/MODEL:ID/retry` from `/jobs/MODEL/VERSION`."""

    regex = f"[^/:]+:(?!{EXPLAIN[1:]}/)[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("job", JobIdConvertor())


class RunJobs(Protocol):
    """Starts runs of workflows as jobs."""

    def knows(self, name: str, /) -> bool: ...

    async def submit(
        self, name: str, scope: Scope, receive: Receive, options: JobOptions, key: str, /
    ) -> str: ...


def router(predictor: Predictor, jobs: Jobs, runs: RunJobs | None = None) -> APIRouter:
    """The routes that queue jobs. Where a model and a workflow have the same name, it is the model's."""
    api = APIRouter(tags=["jobs"])

    @api.post("/jobs/{job_id:job}/retry", status_code=202)
    async def retry(request: Request, job_id: JobIdPath) -> Response:
        """Queues a failed or expired job again, with its id. 409 for a job in another state."""
        record = await jobs.get(job_id)
        route = await predictor.find(access_of(request.scope, INFERENCE), record.model, record.version)
        route.admit_job(0)
        try:
            await jobs.retry(job_id)
        except ServiceError:
            route.backlog.forgo(0)
            raise
        return _accepted(job_id)

    @api.post("/jobs/{model}", status_code=202)
    @api.post("/jobs/{model}/{version}", status_code=202)
    @api.post("/jobs/{model}/{version}/{path:path}", status_code=202)
    @api.put("/jobs/{model}", status_code=202, include_in_schema=False)  # what `curl -T` sends
    @api.put("/jobs/{model}/{version}", status_code=202, include_in_schema=False)
    @api.put("/jobs/{model}/{version}/{path:path}", status_code=202, include_in_schema=False)
    async def submit(
        request: Request, model: str, version: str | None = None, path: str = "", key: IdempotencyKey = None
    ) -> Response:
        """Queues a request and answers at once; takes the same body as `/predictions`.

        `{model}` may be a workflow. `{model}:explain` queues an explanation. Headers `X-Marq-…` are the job's
        options: priority, tags, times and retries.
        """
        explains = model.endswith(EXPLAIN)
        target = Target(model.removesuffix(EXPLAIN), version, path, True if explains else None)
        headers = client_headers(request.scope)
        options = job_headers.options(headers)
        access = access_of(request.scope, INFERENCE)
        try:
            route = (await predictor.find(access, target.model, version)).at(options.priority)
        except ModelNotFound:
            if version is not None or runs is None or not runs.knows(model):
                raise
            return _accepted(await runs.submit(model, request.scope, request.receive, options, key or ""))
        options = options.of_model(route.spec.webhook_url)
        body = await predictor.read_job(route, request.scope, request.receive, key or "")
        head = predictor.entry_head(
            target.headers(headers),
            path.encode(),
            timeout_s=job_headers.start_within_s(headers, options.not_before),
            options=options,
        )
        head = predictor.in_sequence(route, head, headers)
        fields = EntryFields(body, head) if isinstance(body, bytes) else EntryFields(b"", head, body)
        return _accepted(await predictor.submit(route, fields, key or ""))

    return api


def _accepted(job_id: str) -> Response:
    return JSONResponse({"job_id": job_id}, 202, {"Location": f"/jobs/{quote(job_id, safe=':')}"})
