"""The outboxes of webhooks, for their senders. A message leaves its outbox once it has been delivered.

A sender takes a message for a while; if it ends meanwhile, another one sends the message again, with its id.
"""

import time
from collections.abc import Sequence

from marq import keys
from marq.queue.broker import Broker
from marq.webhooks import scripts
from marq.webhooks.messages import Message
from marq.webhooks.signing import new_secret

TAKEN_MS = 60_000  # longer than a try can last
FAILED_KEPT_MS = 7 * 86_400_000
MOST_FAILED = 10_000  # of one model
UNUSED_S = 400 * 86_400  # a job may be scheduled a year ahead
NEVER = -1


class Outbox:
    """Raises what Broker.execute does."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def take(self, most: int) -> list[Message]:
        """Messages that are due, of all models; about `most`."""
        models = [model.decode() for model in await self._broker.execute("ZRANGE", keys.WEBHOOKS, 0, -1)]
        found: list[Message] = []
        for model in models:
            if len(found) >= most:
                break
            prefix = keys.webhook(model, "")
            due = [keys.webhooks(model, "due")]
            taken = await self._broker.run(scripts.TAKE, due, TAKEN_MS, most - len(found), prefix)
            found += [Message.read(model, message_id, flat) for message_id, flat in taken]
        return found

    async def forget_unused_models(self) -> None:
        """Models of which no job with a webhook was queued for more than a year."""
        last = int(time.time()) - UNUSED_S
        await self._broker.execute("ZREMRANGEBYSCORE", keys.WEBHOOKS, "-inf", last)

    async def delivered(self, message: Message) -> None:
        # In this order: after a crash in between, `take` forgets the id.
        await self._broker.execute("DEL", keys.webhook(message.model, message.id))
        await self._broker.execute("ZREM", keys.webhooks(message.model, "due"), message.id)

    async def put_off(self, message: Message, delay_s: float) -> None:
        """It was not sent yet: this does not count as a try."""
        await self._postpone(message, round(1000 * delay_s), "")

    async def retry(self, message: Message, delay_s: float, error: str) -> None:
        await self._postpone(message, round(1000 * delay_s), error)

    async def give_up(self, message: Message, error: str) -> None:
        """It is kept among the failed ones."""
        await self._postpone(message, NEVER, error)

    async def secret(self) -> str:
        """The secret that all hosts share where no setting has one."""
        await self._broker.execute("SET", keys.WEBHOOK_SECRET, new_secret(), "NX")
        found: bytes = await self._broker.execute("GET", keys.WEBHOOK_SECRET)
        return found.decode()

    async def _postpone(self, message: Message, delay_ms: int, error: str) -> None:
        await self._broker.run(
            scripts.POSTPONE, _keys_of(message.model, message.id), message.id, delay_ms, error,
            FAILED_KEPT_MS, MOST_FAILED, keys.webhook(message.model, ""),
        )  # fmt: skip


def _keys_of(model: str, message_id: str) -> Sequence[str]:
    return [keys.webhooks(model, "due"), keys.webhooks(model, "failed"), keys.webhook(model, message_id)]
