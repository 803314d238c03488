"""`POST /jobs/{model}:batch` and `/jobs/groups/{group}`."""

from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from gateway.asgi import Document, Responses, access_of, client_headers
from gateway.batches import rows
from gateway.batches.submission import MOST_OF_ALL, Batch, BatchAnswer
from gateway.inference import job_headers
from gateway.inference.job_events import HEADERS, LastEventId
from gateway.inference.job_submission import IdempotencyKey
from gateway.inference.predictor import Predictor
from gateway.uploads import too_large
from marq.jobs import ends, groups
from marq.jobs.ends import Wanted
from marq.jobs.groups import Group
from marq.jobs.jobs import Jobs
from marq.plugins.protocols import INFERENCE

OF_THE_BATCH = (b"content-type", b"content-length", b"transfer-encoding", b"expect")  # not of each body
NOT_READABLE: Responses = {415: {"description": "The body is neither JSON lines nor multipart."}}
LONGEST_ROW = 16 * 2**20  # bytes; each open batch has one in memory


def router(predictor: Predictor, jobs: Jobs, result_ttl_ms: int) -> APIRouter:
    """The routes. They come before those of single jobs, whose paths they look like."""
    api = APIRouter(tags=["jobs"])

    @api.post("/jobs/{model}:batch", status_code=202, response_class=BatchAnswer, responses=NOT_READABLE)
    @api.post(
        "/jobs/{model}/{version}:batch", status_code=202, response_class=BatchAnswer, responses=NOT_READABLE
    )
    @api.put("/jobs/{model}:batch", status_code=202, include_in_schema=False)  # what `curl -T` sends
    @api.put("/jobs/{model}/{version}:batch", status_code=202, include_in_schema=False)
    async def submit(
        request: Request, model: str, version: str | None = None, key: IdempotencyKey = None
    ) -> Response:
        """Queues a job for each line of JSON lines, or for each part of a multipart body, as they arrive.

        The answer is JSON lines: for each body its number and its job id or error, then the group and the
        totals. The headers are the options of all the jobs.
        """
        headers = client_headers(request.scope)
        reader = rows.reader(headers, min(predictor.max_request_size, LONGEST_ROW))
        asked = job_headers.options(headers)
        asked.refuse_urls("The jobs of a batch have")
        predictor.url_rules.check_webhook(asked.webhook)
        route = await predictor.find(access_of(request.scope, INFERENCE), model, version)
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > MOST_OF_ALL:
            raise too_large(int(announced), MOST_OF_ALL, "a batch")
        group = Group.new(model, key or "")
        head = predictor.entry_head(
            [line for line in headers if line[0].lower() not in OF_THE_BATCH],
            b"",
            timeout_s=job_headers.start_within_s(headers, asked.not_before),
            options=group.options(asked, route.spec.webhook_url),
        )
        head = predictor.in_sequence(route, head, headers)
        opening = await groups.open_group(jobs.broker, group, route.spec.version, asked, result_ttl_ms)
        batch = Batch(jobs.broker, route, group, asked.priority, head, opening)
        return BatchAnswer(batch, reader, _url(group))

    @api.get("/jobs/groups/{group_id}")
    async def show(request: Request, group_id: str) -> Document:
        """How many jobs of a group are in each state, and whether all have ended and no more come."""
        group = Group.parse(group_id)
        await predictor.authorize(access_of(request.scope, INFERENCE, group.model))
        found = await groups.find(jobs.broker, group)
        return {
            "group": str(group),
            "jobs": found.jobs,
            "finished": found.is_finished,
            "counts": found.counts,
            "list": f"/jobs?{urlencode({'model': group.model, 'tag': group.tag})}",
        }

    @api.get("/jobs/groups/{group_id}/events", response_class=StreamingResponse)
    async def events(request: Request, group_id: str, last: LastEventId = "") -> StreamingResponse:
        """The ends of a group's jobs as server-sent events, until all have ended."""
        group = Group.parse(group_id)
        await predictor.authorize(access_of(request.scope, INFERENCE, group.model))
        await groups.find(jobs.broker, group)
        following = ends.follow(jobs, Wanted(group.model, group.tag, group), last)
        return StreamingResponse(following, headers=HEADERS, media_type="text/event-stream")

    @api.delete("/jobs/groups/{group_id}")
    async def cancel(request: Request, group_id: str) -> Document:
        """Cancels all jobs of a group that have not finished."""
        group = Group.parse(group_id)
        await predictor.authorize(access_of(request.scope, INFERENCE, group.model))
        await groups.find(jobs.broker, group)
        done = await groups.cancel(jobs.broker, group, result_ttl_ms)
        return {"cancelled": done.cancelled, "remaining": done.remaining}

    return api


def _url(group: Group) -> str:
    return f"/jobs/groups/{quote(str(group), safe=':')}"
