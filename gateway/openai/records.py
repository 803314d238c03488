"""The records of batches in Redis, and how they change."""

import secrets
import time
from collections.abc import Collection

import orjson

from gateway.asgi import Document
from marq import keys
from marq.errors import Conflict, ServiceError
from marq.queue import scripts
from marq.queue.broker import Broker

WINDOW_S = 86_400  # OpenAI's "24h": a batch ends then in any case
KEPT_S = 30 * 86_400
MOST_OPEN = 100
VALIDATING, IN_PROGRESS, FINALIZING = "validating", "in_progress", "finalizing"
CANCELLING, CANCELLED = "cancelling", "cancelled"
COMPLETED, FAILED, EXPIRED = "completed", "failed", "expired"
NO_COUNTS = {"total": 0, "completed": 0, "failed": 0}
OF_CLIENTS = (
    "id", "object", "endpoint", "errors", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at",
    "failed_at", "expired_at", "cancelling_at", "cancelled_at", "request_counts", "metadata", "model",
)  # fmt: skip


class BatchNotKnown(ServiceError):
    """Raised for the id of a batch that does not exist, or has expired."""

    status, type = 404, "BatchNotFoundException"


class TooManyBatches(ServiceError):
    """Raised while too many batches have not ended."""

    status, type = 429, "TooManyBatchesException"


class Records:
    """Raises ServiceUnavailable while Redis cannot be reached."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create(self, asked: Document) -> Document:
        """A new batch. Raises TooManyBatches."""
        open_now = await self._broker.execute("ZCARD", keys.OPEN_BATCHES)
        if int(open_now) >= MOST_OPEN:
            raise TooManyBatches(f"{open_now} batches have not ended; {MOST_OPEN} may be open at a time.")
        now, batch_id = time.time(), f"batch_{secrets.token_hex(16)}"
        record: Document = {
            **asked, "id": batch_id, "object": "batch", "created_at": int(now),
            "expires_at": int(now + WINDOW_S), "request_counts": NO_COUNTS,
        }  # fmt: skip
        key = keys.batch(batch_id)
        await self._broker.execute("HSET", key, "status", VALIDATING, *_flat(record))
        await self._broker.execute("EXPIREAT", key, int(now + KEPT_S))
        for index in (keys.BATCHES, keys.OPEN_BATCHES):  # the last step makes a worker take it
            await self._broker.execute("ZADD", index, int(now * 1000), batch_id)
        return {**record, "status": VALIDATING}

    async def get(self, batch_id: str) -> Document:
        """The whole record. Raises BatchNotKnown."""
        flat = await self._broker.execute("HGETALL", keys.batch(batch_id))
        if not flat:
            raise BatchNotKnown(f"There is no batch {batch_id:.100}.")
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        status = stored.pop(b"status").decode()
        return {"status": status, **{name.decode(): orjson.loads(value) for name, value in stored.items()}}

    async def status(self, batch_id: str) -> str:
        """Empty if there is no such batch any more."""
        return bytes(await self._broker.execute("HGET", keys.batch(batch_id), "status") or b"").decode()

    async def change(
        self, batch_id: str, allowed: Collection[str], status: str, *, ends: bool = False, **fields: object
    ) -> bool:
        """Changes a batch that has one of these statuses, in one step; whether it did."""
        done = await self._broker.run(
            scripts.CHANGE, [keys.batch(batch_id), keys.OPEN_BATCHES], ",".join(allowed),
            batch_id if ends else "", "status", status, *_flat(fields),
        )  # fmt: skip
        return bool(done)

    async def cancel(self, batch_id: str) -> Document:
        """Asks for the end of a batch. Raises BatchNotKnown and Conflict."""
        asked = await self.change(
            batch_id, (VALIDATING, IN_PROGRESS), CANCELLING, cancelling_at=int(time.time())
        )
        record = await self.get(batch_id)
        if not asked and record["status"] not in (CANCELLING, CANCELLED):
            raise Conflict(f"Batch {batch_id} is {record['status']}; it cannot be cancelled any more.")
        return record

    async def all(self) -> list[str]:
        """The ids of all batches, the newest first."""
        before = int((time.time() - KEPT_S) * 1000)
        await self._broker.execute("ZREMRANGEBYSCORE", keys.BATCHES, "-inf", before)
        return [each.decode() for each in await self._broker.execute("ZREVRANGE", keys.BATCHES, 0, -1)]

    async def open(self) -> list[str]:
        """The ids of those that have not ended."""
        return [each.decode() for each in await self._broker.execute("ZRANGE", keys.OPEN_BATCHES, 0, -1)]

    async def forget(self, batch_id: str) -> None:
        """Takes a batch without a record out of the open ones."""
        await self._broker.execute("ZREM", keys.OPEN_BATCHES, batch_id)


def shown(record: Document) -> Document:
    """A batch as clients see it."""
    return {name: record.get(name) for name in OF_CLIENTS}


def _flat(fields: Document) -> list[bytes]:
    return [part for name, value in fields.items() for part in (name.encode(), orjson.dumps(value))]
