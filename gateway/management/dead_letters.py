"""`/dead-letters`: requests that failed for good are listed, replayed and deleted. marq's own routes.

Handlers are plain functions that talk to Redis; FastAPI runs them in threads.
"""

import base64
from typing import Annotated, Self

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.asgi import Document
from gateway.management.waiting import WaitingRequests
from gateway.unused_parameters import refuse_mistaken
from gateway.uploads import Uploads
from marq.connections import clients
from marq.errors import ModelNotFound
from marq.queue.dead_letters import ID, DeadLetters, Letter, Replayed
from marq.registry.models import Registry
from marq.settings.fields import Settings

MOST = 1000  # letters on a page, or ids in one request
SECRET_HEADERS = frozenset(("authorization", "proxy-authorization", "cookie"))
NAMED = frozenset(("id", "type", "replay_of"))  # fields that have a name of their own
BINARY = "application/octet-stream"
Model = Annotated[str, Path(description="Name of a model; it need not be registered any more.")]
LetterId = Annotated[str, Path(description="As listed by `GET /dead-letters/{model}`.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Letters on a page.")]
Before = Annotated[str | None, Query(pattern=ID, description="`next` of the page before.")]


class ReplayOrder(BaseModel):
    """The letters to replay: either `ids` or `all`."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[str], Field(max_length=MOST)] | None = None
    all: bool = False
    version: Annotated[str | None, Field(description="Default: the version that each was for.")] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.ids is None) != self.all:
            raise ValueError('give either "ids" or "all": true')
        return self


ORDER: Document = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ReplayOrder.model_json_schema()}},
    }
}


def router(settings: Settings) -> APIRouter:
    """The routes of dead letters."""
    api = APIRouter(tags=["dead letters"])
    handlers = Handlers(settings)
    api.get("/dead-letters")(handlers.list_models)
    api.get("/dead-letters/{model}")(handlers.list_letters)
    unmistaken = [Depends(refuse_mistaken)]
    api.delete("/dead-letters/{model}", dependencies=unmistaken)(handlers.delete_all)
    api.post("/dead-letters/{model}/replay", status_code=202, openapi_extra=ORDER)(handlers.replay)
    api.get("/dead-letters/{model}/{letter_id}")(handlers.show)
    api.delete("/dead-letters/{model}/{letter_id}", dependencies=unmistaken)(handlers.delete)
    api.get(
        "/dead-letters/{model}/{letter_id}/body",
        response_class=Response,
        responses={
            200: {"description": "The request's body, with its content type.", "content": {"*/*": {}}}
        },
    )(handlers.body)
    return api


class Handlers:
    """The handlers; their first lines appear in the OpenAPI document."""

    def __init__(self, settings: Settings) -> None:
        client = clients.client(settings.redis_url)
        self._letters, self._registry, self._waiting = (
            DeadLetters(client),
            Registry(client),
            WaitingRequests(),
        )
        self._uploads = Uploads.of_management(settings)

    def list_models(self) -> Document:
        """How many dead letters each model has, their bytes in Redis, when the oldest and the newest died."""
        return {"models": [vars(summary) for summary in self._letters.summaries()]}

    def list_letters(self, model: Model, limit: Limit = 100, before: Before = None) -> Document:
        """A model's dead letters, the newest first; `next` is there if there are older ones."""
        page = self._letters.page(model, limit + 1, before or "")
        if not page:
            self._check_known(model)
        more = {"next": page[limit - 1].id} if len(page) > limit else {}
        return {"dead_letters": [describe(letter) for letter in page[:limit]], **more}

    def show(self, model: Model, letter_id: LetterId) -> Document:
        """All that is known of one, with its input: as text if it is text, else as base64."""
        letter = self._letters.get(model, letter_id)
        body = None if letter.size is None else self._letters.body(model, letter_id)
        return {**describe(letter), **_request(letter), **_input(body)}

    def body(self, model: Model, letter_id: LetterId) -> Response:
        """The request's body as it came."""
        body = self._letters.body(model, letter_id)
        kind = self._letters.get(model, letter_id).fields.get("type", "")
        sendable = kind and kind.isascii() and kind.isprintable()
        headers = {"Content-Type": kind if sendable else BINARY, "X-Content-Type-Options": "nosniff"}
        return Response(body, headers=headers)

    async def replay(self, request: Request, model: Model) -> Response:
        """Queues requests again, as jobs without a deadline; their letters are removed.

        `refused` lists the letters that could not be replayed, with reasons. With a single id: an error.
        """
        order = await self._uploads.read_json(request.scope, request.receive, ReplayOrder)
        return await self._waiting.run(self._replay, model, order)

    def _replay(self, model: str, order: ReplayOrder) -> Response:
        ids = self._letters.ids(model) if order.ids is None else order.ids
        if not ids:
            self._check_known(model)
        done = self._letters.replay(model, ids, order.version)
        if order.ids is not None and len(ids) == len(done.refused) == 1:
            raise done.refused[ids[0]]
        return JSONResponse(_replayed(done), 202)

    def delete(self, model: Model, letter_id: LetterId) -> Document:
        """Deletes one."""
        if not self._letters.delete(model, [letter_id]):
            self._letters.get(model, letter_id)
        return {"deleted": 1}

    def delete_all(self, model: Model) -> Document:
        """Deletes all of a model."""
        deleted = self._letters.delete_all(model)
        if not deleted:
            self._check_known(model)
        return {"deleted": deleted}

    def _check_known(self, model: str) -> None:
        """Raises ModelNotFound where a model without dead letters is not registered: it may be a slip."""
        if model not in self._registry.models().defaults:
            raise ModelNotFound(f"Model not found, and no dead letters of it: {model}")


def describe(letter: Letter) -> Document:
    """A dead letter as lists show it."""
    about = letter.about
    return {
        "id": letter.id, "died": letter.died, "reason": about.get("reason", ""), "version": letter.version,
        "attempts": int(about.get("attempts") or 0), "device": about.get("device", ""),
        "ending": about.get("ending", ""), "log": about.get("log", ""),
        "lane": about.get("lane", ""), "entry": about.get("entry", ""),
        "request_id": letter.request_id, "replay_of": letter.replay_of or None,
        "content_type": letter.fields.get("type", ""), "size": letter.size,
        "replayable": not letter.obstacle,
    }  # fmt: skip


def _request(letter: Letter) -> Document:
    """The other fields that the client or a producer gave."""
    others = {name: value for name, value in letter.fields.items() if name not in NAMED}
    if "headers" in others:
        others["headers"] = _without_secrets(others["headers"])
    return {"fields": others}


def _without_secrets(headers: str) -> str:
    try:
        given = dict(orjson.loads(headers))
        return orjson.dumps(
            {name: "***" if name.lower() in SECRET_HEADERS else value for name, value in given.items()}
        ).decode()
    except (ValueError, TypeError, AttributeError):
        return headers


def _input(body: bytes | None) -> Document:
    if body is None:
        return {}
    try:
        return {"input": body.decode()}
    except UnicodeDecodeError:
        return {"input_base64": base64.b64encode(body).decode()}


def _replayed(done: Replayed) -> Document:
    return {
        "replayed": [{"id": letter, "job_id": job} for letter, job in done.jobs.items()],
        "refused": [{"id": letter, "reason": error.message} for letter, error in done.refused.items()],
    }
