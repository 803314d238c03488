"""`/webhooks`: messages that were not delivered yet, or not at all. marq's own routes."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from gateway.asgi import Document
from marq.connections import clients
from marq.settings.fields import Settings
from marq.webhooks.inspection import Webhooks

MOST = 1000  # messages on a page
MessageId = Annotated[str, Path(description="The header `webhook-id`, as listed by `GET /webhooks`.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Messages on a page.")]


def router(settings: Settings) -> APIRouter:
    """The routes of webhooks. Handlers talk to Redis and wait for it; FastAPI runs them in threads."""
    api, webhooks = APIRouter(tags=["webhooks"]), Webhooks(clients.client(settings.redis_url))

    @api.get("/webhooks")
    def page(
        model: str | None = None,
        delivery: Literal["pending", "failed"] | None = None,
        limit: Limit = 100,
    ) -> Document:
        """Messages that wait for a try or have failed, and how many there are. Delivered ones are gone."""
        found = webhooks.page(model, delivery, limit)
        return {"webhooks": [each.to_dict() for each in found], "counts": webhooks.counts(model)}

    @api.get("/webhooks/{message_id}")
    def show(message_id: MessageId) -> Document:
        """One message, with its body."""
        kept = webhooks.get(message_id)
        return {**kept.to_dict(), "body": kept.message.body.decode()}

    @api.post("/webhooks/{message_id}/replay", status_code=202)
    def replay(message_id: MessageId) -> Document:
        """Sends a message at once, with its id, and again after the usual delays if that fails."""
        webhooks.replay(message_id)
        return {"replayed": message_id}

    return api
