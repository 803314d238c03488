"""`/jobs/{job_id}`: watch, fetch, cancel. marq's own routes: standard HTTP throughout."""

import asyncio
import time
from collections.abc import AsyncIterator
from io import FileIO
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from gateway.asgi import Document, header_lines
from gateway.inference import job_headers
from gateway.inference.job_lists import describe
from gateway.inference.job_submission import JobIdPath
from gateway.inference.predictor import Predictor
from marq.errors import BadReply, Conflict
from marq.jobs.jobs import Jobs
from marq.jobs.position import position
from marq.jobs.streamed_answers import parts_of
from marq.payloads.files import lost
from marq.queue import job_records
from marq.queue.job_records import JobRecord
from marq.reply_rules import WITHOUT_BODY, is_final_status

CHUNK = 1 << 20  # bytes of a result that are in memory
Wait = Annotated[
    float,
    Query(
        ge=0,
        le=job_headers.LONGEST_WAIT_S,
        description="Seconds to wait for the job to finish, if it has not.",
    ),
]


def router(predictor: Predictor, jobs: Jobs) -> APIRouter:
    """The routes of jobs."""
    api = APIRouter(tags=["jobs"])

    @api.get("/jobs/{job_id}")
    async def status(job_id: JobIdPath, wait: Wait = 0.0) -> Document:
        """The job's state and times, and the URL of its result once it has finished.

        While it is queued: about its position, and when it is expected to start.
        """
        record = await jobs.wait(job_id, wait)
        place = await position(jobs.broker, record)
        if place is None:
            return describe(record)
        left_s = predictor.time_until(record.model, record.version, place)
        expected = {} if left_s is None else {"expected_start": time.time() + left_s}
        return {**describe(record), "position": place, **expected}

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
        if record.body_ref and status not in WITHOUT_BODY:
            size, chunks = await _result_of(jobs, record)
            whole = StreamingResponse(chunks, status, {"Content-Length": str(size)})
            whole.raw_headers += headers
            return whole
        response = (
            Response(b"" if status in WITHOUT_BODY else record.body or b"", status)
            if record.is_finished or status in WITHOUT_BODY
            else StreamingResponse(parts_of(jobs, job_id), status)
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


async def _result_of(jobs: Jobs, record: JobRecord) -> tuple[int, AsyncIterator[bytes]]:
    """The size of a result that is a file, and its bytes. Raises PayloadLost."""
    files = await jobs.files_of(record.body_ref)
    try:
        file = open(files.path(record.body_ref), "rb", buffering=0)  # noqa: SIM115, PTH123
    except OSError as error:
        raise lost(error) from None
    return file.seek(0, 2), _chunks(file)


async def _chunks(file: FileIO) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
