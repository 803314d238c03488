"""`GET /jobs/{job_id}/events`: the changes of a job, as server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from gateway.inference.job_submission import JobIdPath
from marq.jobs.events import Position, follow
from marq.jobs.jobs import Jobs

LastEventId = Annotated[
    str,
    Header(alias="Last-Event-ID", max_length=100, description="`id` of the last event that was received."),
]
# Not kept by caches, nor held back by nginx
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def router(jobs: Jobs) -> APIRouter:
    """The route of events."""
    api = APIRouter(tags=["jobs"])

    @api.get(
        "/jobs/{job_id}/events",
        response_class=StreamingResponse,
        responses={
            200: {"description": "Events until the job has ended.", "content": {"text/event-stream": {}}},
            204: {"description": "The client has had the last event; browsers do not connect again."},
        },
    )
    async def events(job_id: JobIdPath, last: LastEventId = "") -> Response:
        """The job's states and the parts of its streamed answer, until it has ended.

        After a lost connection, `Last-Event-ID` goes on where it was.
        """
        await jobs.get(job_id)
        after = Position.parse(last)
        if after.is_end and (await jobs.get(job_id)).state == after.state:
            return Response(status_code=204)
        return StreamingResponse(
            follow(jobs, job_id, after if not after.is_end else Position()),
            headers=HEADERS,
            media_type="text/event-stream",
        )

    return api
