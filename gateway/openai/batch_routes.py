"""`/v1/batches`, as OpenAI's clients use it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from gateway.asgi import Document, access_of
from gateway.inference.predictor import Predictor
from gateway.openai import lines
from gateway.openai.file_routes import Name, page
from gateway.openai.files import Files
from gateway.openai.records import IN_PROGRESS, Records, shown
from gateway.openai.run import counts_of, request_counts
from marq.errors import BadRequest
from marq.jobs.groups import Group
from marq.jobs.jobs import Jobs
from marq.plugins.protocols import INFERENCE

MOST_PAIRS, LONGEST_NAME, LONGEST_VALUE = 16, 64, 512  # of the metadata
Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Value = Annotated[str, Field(max_length=LONGEST_VALUE)]
Key = Annotated[str, Field(max_length=LONGEST_NAME)]


class NewBatch(BaseModel):
    """A client's request for a batch."""

    input_file_id: str = Field(max_length=100)
    endpoint: str = Field(pattern=r"^/v1/[A-Za-z0-9_/.-]{1,200}$")
    completion_window: Literal["24h"]
    metadata: dict[Key, Value] | None = Field(None, max_length=MOST_PAIRS)


ORDER: Document = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": NewBatch.model_json_schema()}},
    }
}


def router(predictor: Predictor, jobs: Jobs, files: Files, records: Records) -> APIRouter:
    """The routes of batches."""
    api = APIRouter(tags=["batches"])

    async def described(batch_id: str) -> Document:
        record = await records.get(batch_id)
        if record["status"] == IN_PROGRESS:
            total = record["request_counts"]
            group = Group(str(record["model"]), batch_id)
            if isinstance(total, dict):
                counts = await counts_of(jobs, group)
                record["request_counts"] = request_counts(int(total["total"]), counts)
        return shown(record)

    @api.post("/v1/batches", openapi_extra=ORDER)
    async def create(request: Request) -> Document:
        """Runs each line of a file as a job of low priority. Its `body.model` names the model, its `url` the
        path that the handler gets."""
        asked = await predictor.uploads.read_json(request.scope, request.receive, NewBatch)
        path = await files.found(asked.input_file_id)
        if model := lines.first_model(path):
            await predictor.find(access_of(request.scope, INFERENCE), model, None)
        return shown(await records.create(asked.model_dump()))

    @api.get("/v1/batches")
    async def show(limit: Limit = 20, after: Name = None) -> Document:
        """The batches, the newest first."""
        ids = await records.all()
        if after and after not in ids:
            raise BadRequest(f"Parameter after must be an id of the list, not {after!r:.100}")
        some = ids[ids.index(after) + 1 if after else 0 :][: limit + 1]
        return page([await described(batch_id) for batch_id in some], limit, None)

    @api.get("/v1/batches/{batch_id}")
    async def retrieve(batch_id: str) -> Document:
        """One batch. `output_file_id` and `error_file_id` are there when it has ended."""
        return await described(batch_id)

    @api.post("/v1/batches/{batch_id}/cancel")
    async def cancel(batch_id: str) -> Document:
        """Cancels the requests that have not finished; the answers so far become the output file."""
        return shown(await records.cancel(batch_id))

    return api
