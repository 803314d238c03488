"""`/jobs`: submit, watch, fetch. marq's own routes: standard HTTP throughout."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from gateway.asgi import read_body
from gateway.inference import deadlines
from gateway.inference.predictor import entry_fields
from gateway.routing.routes import Route, Routes
from marq.errors import Conflict, ServiceUnavailable
from marq.queue import job_records
from marq.queue.ids import new_id
from marq.queue.job_records import JobRecord
from marq.queue.jobs import Jobs, KeyedRequest

LONGEST_WAIT_S = 60.0
JobId = Annotated[str, Path(description="As returned by `POST /jobs/{model}`.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255,
        description="The same key returns the same job while its record is kept, however full the queue is; "
        "with another body, content type or version: 422.",
    ),
]  # fmt: skip
Wait = Annotated[
    float, Query(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for the job to finish, if it has not.")
]


def router(routes: Routes, jobs: Jobs, max_request_size: int) -> APIRouter:
    """The routes of jobs."""
    api = APIRouter(tags=["jobs"])

    @api.post("/jobs/{model}", status_code=202)
    @api.post("/jobs/{model}/{version}", status_code=202)
    async def submit(
        request: Request, model: str, version: str | None = None, key: IdempotencyKey = None
    ) -> Response:
        """Queues a request and answers at once; the body is what `/predictions` would take."""
        route = routes.find(model, version)
        headers = request.scope["headers"]
        body = await read_body(request.scope, request.receive, max_request_size)
        fields = entry_fields(headers, body, "", timeout_s=deadlines.timeout_s(headers)).flat()
        if key:
            job_id = await _submit_once(jobs, route, KeyedRequest(model, version, key, fields), len(body))
        else:
            job_id = await _submit(jobs, route, fields, len(body))
        return JSONResponse({"job_id": job_id}, 202, {"Location": f"/jobs/{job_id}"})

    @api.get("/jobs/{job_id}")
    async def status(job_id: JobId, wait: Wait = 0.0) -> dict[str, Any]:
        """The job's state and times; `result` tells where its result is once it has finished."""
        return describe(await jobs.wait(job_id, wait))

    @api.get("/jobs/{job_id}/result")
    async def result(job_id: JobId, wait: Wait = 0.0) -> Response:
        """The handler's own answer: its bytes, status and headers. 409 while there is none.

        Of a job that streams, the parts that are there are sent at once, and the others as they come.
        """
        record = await jobs.wait(job_id, wait, or_streams=True)
        if record.state == job_records.CANCELLED:
            raise Conflict(f"Job {job_id} was cancelled; it has no result.")
        if not record.is_finished and not record.parts:
            raise Conflict(f"Job {job_id} is {record.state}; wait for it with ?wait=SECONDS.")
        status = record.status or 200
        response = (
            Response(record.body or b"", status)
            if record.is_finished
            else StreamingResponse(jobs.stream(job_id), status)
        )
        headers = [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in record.headers.items()
        ]
        response.raw_headers += headers
        return response

    @api.delete("/jobs/{job_id}")
    async def cancel(job_id: JobId) -> dict[str, Any]:
        """Cancels a job: queued, it is never run; running, its result is dropped. 409 if it has finished."""
        if not await jobs.cancel(job_id):
            raise Conflict(f"Job {job_id} has finished; there is nothing to cancel.")
        return describe(await jobs.get(job_id))

    return api


def _admit(route: Route, size: int) -> None:
    """Counts a job. Raises ServiceUnavailable, or one of its kinds, where it cannot be taken."""
    route.check_job()
    route.backlog.admit_job(size)


async def _submit(jobs: Jobs, route: Route, fields: tuple[bytes, ...], size: int) -> str:
    _admit(route, size)
    try:
        return await jobs.submit(route.spec.name, route.spec.version, new_id(), fields)
    except ServiceUnavailable:
        route.backlog.forgo(size)
        raise


async def _submit_once(jobs: Jobs, route: Route, request: KeyedRequest, size: int) -> str:
    """The id of the job with this key; one that exists is told also where no new one can be taken."""
    try:
        return await _queue_once(jobs, route, request, size)
    except ServiceUnavailable:
        if (job_id := await jobs.find(request)) is None:
            raise
        return job_id


async def _queue_once(jobs: Jobs, route: Route, request: KeyedRequest, size: int) -> str:
    _admit(route, size)
    is_new = False
    try:
        job_id, is_new = await jobs.submit_once(route.spec.version, request)
    finally:
        if not is_new:
            route.backlog.forgo(size)
    return job_id


def describe(record: JobRecord) -> dict[str, Any]:
    data = record.to_dict()
    if record.is_finished and record.state != job_records.CANCELLED:
        data["result"] = f"/jobs/{record.id}/result"
    return data
