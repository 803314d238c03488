"""`/jobs`: submit, watch, fetch. marq's own routes: standard HTTP throughout."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from gateway.asgi import Document, client_headers, header_lines
from gateway.inference import deadlines
from gateway.inference.job_lists import describe
from gateway.inference.predictor import Predictor
from marq.errors import BadReply, Conflict
from marq.queue import job_records
from marq.queue.entries import EntryFields
from marq.queue.jobs import Jobs
from marq.reply_rules import WITHOUT_BODY, is_final_status

LONGEST_WAIT_S = 60.0
JobIdPath = Annotated[str, Path(description="As returned by `POST /jobs/{model}`.")]
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


def router(predictor: Predictor, jobs: Jobs) -> APIRouter:
    """The routes of jobs."""
    api = APIRouter(tags=["jobs"])

    @api.post("/jobs/{model}", status_code=202)
    @api.post("/jobs/{model}/{version}", status_code=202)
    @api.put("/jobs/{model}", status_code=202, include_in_schema=False)  # what `curl -T` sends
    @api.put("/jobs/{model}/{version}", status_code=202, include_in_schema=False)
    async def submit(
        request: Request, model: str, version: str | None = None, key: IdempotencyKey = None
    ) -> Response:
        """Queues a request and answers at once; takes the same body as `/predictions`."""
        headers = client_headers(request.scope)
        route = predictor.find(headers, model, version)
        body = await predictor.uploads.read(request.scope, request.receive)
        head = predictor.entry_head(headers, b"", timeout_s=deadlines.timeout_s(headers))
        job_id = await predictor.submit(route, EntryFields(body, head), key or "")
        return JSONResponse({"job_id": job_id}, 202, {"Location": f"/jobs/{quote(job_id, safe=':')}"})

    @api.get("/jobs/{job_id}")
    async def status(job_id: JobIdPath, wait: Wait = 0.0) -> Document:
        """The job's state and times, and the URL of its result once it has finished."""
        return describe(await jobs.wait(job_id, wait))

    @api.get("/jobs/{job_id}/result")
    async def result(job_id: JobIdPath, wait: Wait = 0.0) -> Response:
        """The handler's own answer: its bytes, status and headers. 409 before the job has one.

        The parts of a streamed answer are sent as they come.
        """
        record = await jobs.wait(job_id, wait, or_streams=True)
        if record.state == job_records.CANCELLED:
            raise Conflict(f"Job {job_id} was cancelled; it has no result.")
        if not record.is_finished and not record.parts:
            raise Conflict(f"Job {job_id} is {record.state}; wait for it with ?wait=SECONDS.")
        status = record.status or 200
        if not is_final_status(status):
            raise BadReply(f"The status of the job's result is {status}, which HTTP does not allow.")
        headers = header_lines(record.headers)
        response = (
            Response(b"" if status in WITHOUT_BODY else record.body or b"", status)
            if record.is_finished or status in WITHOUT_BODY
            else StreamingResponse(jobs.stream(job_id), status)
        )
        response.raw_headers += headers
        return response

    @api.delete("/jobs/{job_id}")
    async def cancel(job_id: JobIdPath) -> Document:
        """Cancels a job: queued, it is never run; running, its result is dropped. 409 if it has finished."""
        if not await jobs.cancel(job_id):
            raise Conflict(f"Job {job_id} has finished; there is nothing to cancel.")
        return describe(await jobs.get(job_id))

    return api
