"""`GET /jobs`: lists of jobs."""

from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from gateway.asgi import Document, access_of
from gateway.inference.job_events import HEADERS, LastEventId
from gateway.inference.predictor import Predictor
from gateway.unused_parameters import refuse_mistaken, refuse_repeated
from marq.errors import ModelNotFound
from marq.jobs import ends, listing
from marq.jobs.cancellation import cancel_many
from marq.jobs.ends import Wanted
from marq.jobs.jobs import Jobs
from marq.jobs.listing import Cursor, JobFilter, Page
from marq.jobs.options import TAG
from marq.plugins.protocols import INFERENCE
from marq.queue import job_records
from marq.queue.job_records import JobRecord

Model = Annotated[
    str | None, Query(min_length=1, description="Only jobs of this model; default: those of all models.")
]
Version = Annotated[str, Query(min_length=1, description="Only jobs of this version.")]
Tag = Annotated[str, Query(pattern=f"^{TAG.pattern}$", description="Only jobs with this tag.")]
State = Annotated[
    Literal["scheduled", "queued", "running", "succeeded", "failed", "expired", "cancelled"] | None,
    Query(description="Only jobs in this state; the counts are those of all states."),
]
RequiredModel = Annotated[str, Query(min_length=1, description="Only jobs of this model.")]
Unfinished = Annotated[
    Literal["scheduled", "queued", "running"] | None,
    Query(description="Only jobs in this state; default: all that have not finished."),
]
Limit = Annotated[int, Query(ge=1, le=listing.MOST, description="How many jobs at most.")]
After = Annotated[str | None, Query(min_length=1, description="Of the previous page's `next`.")]


def router(predictor: Predictor, jobs: Jobs) -> APIRouter:
    """The routes of lists."""
    api = APIRouter(tags=["jobs"], dependencies=[Depends(refuse_repeated)])

    @api.get("/jobs")
    async def show(
        model: Model = None,
        version: Version = "",
        state: State = None,
        tag: Tag = "",
        limit: Limit = 100,
        after: After = None,
    ) -> Document:
        """A page of jobs, the newest first, and how many there are in each state.

        `next` is the URL of the following page; it is missing on the last one.
        """
        wanted = JobFilter(version, state or "", tag)
        cursor = Cursor.parse(after) if after else None
        page = await listing.page(jobs.broker, [model] if model else predictor.models, wanted, limit, cursor)
        if model and model not in predictor.models and not any(page.counts.values()):
            raise ModelNotFound(f"Model not found: {model}")
        query = {"model": model, "version": version, "state": state, "tag": tag, "limit": limit}
        return describe_page(page, {name: value for name, value in query.items() if value})

    @api.get("/jobs/events", response_class=StreamingResponse)
    async def events(
        request: Request, model: RequiredModel, tag: Tag = "", last: LastEventId = ""
    ) -> StreamingResponse:
        """The ends of a model's jobs as server-sent events, from now on or after `Last-Event-ID`."""
        await predictor.authorize(access_of(request.scope, INFERENCE, model))
        if model not in predictor.models:
            raise ModelNotFound(f"Model not found: {model}")
        following = ends.follow(jobs, Wanted(model, tag), last)
        return StreamingResponse(following, headers=HEADERS, media_type="text/event-stream")

    @api.delete("/jobs", dependencies=[Depends(refuse_mistaken)])
    async def cancel(
        model: RequiredModel,
        version: Version = "",
        state: Unfinished = None,
        tag: Tag = "",
        limit: Limit = 1000,
    ) -> Document:
        """Cancels jobs that have not finished: how many, and how many are left for the next call."""
        done = await cancel_many(jobs.broker, model, JobFilter(version, state or "", tag), limit)
        if model not in predictor.models and not done.cancelled + done.remaining:
            raise ModelNotFound(f"Model not found: {model}")
        return {"cancelled": done.cancelled, "remaining": done.remaining}

    return api


def describe_page(page: Page, query: dict[str, object]) -> Document:
    data: Document = {"jobs": [describe(record) for record in page.jobs], "counts": page.counts}
    if page.next:
        data["next"] = f"/jobs?{urlencode({**query, 'after': str(page.next)})}"
    return data


def describe(record: JobRecord) -> Document:
    data = record.to_dict()
    if record.is_finished and record.state != job_records.CANCELLED:
        data["result"] = f"/jobs/{quote(str(record.id), safe=':')}/result"
    return data
