"""The messages of webhooks for operators: those that wait for a try, and those that have failed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.errors import WebhookNotFound
from marq.webhooks import scripts
from marq.webhooks.messages import Message

PENDING, FAILED = "pending", "failed"
_SETS = {PENDING: "due", FAILED: "failed"}


@dataclass(frozen=True)
class Kept:
    """A message. `moment`: unix seconds of the next try, or, of a failed one, of the last."""

    message: Message
    delivery: str
    moment: float

    def to_dict(self) -> dict[str, object]:
        message = self.message
        return {
            "id": message.id, "delivery": self.delivery, "url": message.url, "job_id": message.job or None,
            "group": message.group or None, "model": message.model, "state": message.state,
            "tries": message.tries,
            "next_try" if self.delivery == PENDING else "failed": self.moment, "error": message.error or None,
        }  # fmt: skip


class Webhooks:
    """All methods raise redis.RedisError."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    def page(self, model: str | None, delivery: str | None, most: int) -> list[Kept]:
        """Failed ones first, the newest at the top; then those that wait, the next one at the top."""
        models = [model] if model else self._models()
        kinds = [delivery] if delivery else [FAILED, PENDING]
        found: list[Kept] = []
        for kind in kinds:
            of_kind = [each for name in models for each in self._of(name, kind, most)]
            of_kind.sort(key=lambda each: each.moment, reverse=kind == FAILED)
            found += of_kind
        return found[:most]

    def counts(self, model: str | None) -> dict[str, int]:
        """How many messages wait, and how many have failed."""
        models = [model] if model else self._models()
        return {
            kind: sum(self._client.zcard(keys.webhooks(name, which)) for name in models)
            for kind, which in _SETS.items()
        }

    def get(self, message_id: str) -> Kept:
        """Raises WebhookNotFound."""
        for model in self._models():
            for kind, which in _SETS.items():
                moment = self._client.execute_command("ZSCORE", keys.webhooks(model, which), message_id)
                if moment is not None and (found := self._read(model, message_id.encode(), kind, moment)):
                    return found
        raise WebhookNotFound(f"Webhook not found; it was delivered, or never was: {message_id:.100}")

    def replay(self, message_id: str) -> None:
        """Sends it now, and again after the usual delays. Raises WebhookNotFound."""
        model = self.get(message_id).message.model
        sets = [keys.webhooks(model, which) for which in _SETS.values()]
        call = scripts.REPLAY.call([*sets, keys.webhook(model, message_id)], message_id)
        if not clients.run(self._client, call):
            raise WebhookNotFound(f"Webhook not found; it was delivered meanwhile: {message_id:.100}")

    def _models(self) -> Sequence[str]:
        return [model.decode() for model in self._client.zrange(keys.WEBHOOKS, 0, -1)]

    def _of(self, model: str, kind: str, most: int) -> Iterator[Kept]:
        order = "ZREVRANGE" if kind == FAILED else "ZRANGE"
        name = keys.webhooks(model, _SETS[kind])
        flat = self._client.execute_command(order, name, 0, most - 1, "WITHSCORES")
        for message_id, moment in zip(flat[::2], flat[1::2], strict=True):
            if found := self._read(model, message_id, kind, moment):
                yield found

    def _read(self, model: str, message_id: bytes, kind: str, moment: float) -> Kept | None:
        """None if the message has been delivered meanwhile."""
        stored = self._client.hgetall(keys.webhook(model, message_id.decode()))
        flat = [part for pair in stored.items() for part in pair]
        return Kept(Message.read(model, message_id, flat), kind, float(moment) / 1000) if flat else None
