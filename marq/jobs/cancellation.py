"""Cancels many jobs at once."""

import time
from dataclasses import dataclass, replace

from marq import keys
from marq.jobs import listing
from marq.jobs.listing import JobFilter
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.entries import DEFAULT_TTL_MS
from marq.queue.ids import JobId
from marq.queue.job_records import QUEUED, RUNNING, SCHEDULED

UNFINISHED = (SCHEDULED, QUEUED, RUNNING)


@dataclass(frozen=True)
class Cancelled:
    """How many jobs were cancelled, and how many that match are left: for the next call."""

    cancelled: int
    remaining: int


async def cancel_many(
    broker: Broker, model: str, wanted: JobFilter, limit: int, ttl_ms: int = DEFAULT_TTL_MS
) -> Cancelled:
    """Cancels up to `limit` unfinished jobs of a model, each in one step. Raises ServiceUnavailable.

    With the state `queued` a job that a replica takes meanwhile runs on.
    """
    cancelled = remaining = 0
    for state in (wanted.state,) if wanted.state else UNFINISHED:
        left = limit - cancelled
        found = await listing.page(broker, [model], replace(wanted, state=state), max(1, left))
        ids = [JobId.parse(record.id).request_id for record in found.jobs][:left]
        done = await _cancel(broker, model, ids, state == QUEUED, ttl_ms)
        cancelled, remaining = cancelled + done, remaining + max(0, found.counts[state] - done)
    return Cancelled(cancelled, remaining)


async def _cancel(broker: Broker, model: str, ids: list[str], only_waiting: bool, ttl_ms: int) -> int:
    records = [keys.job(model, request_id) for request_id in ids]
    asked = [broker.execute("HGET", record, "lane") for record in records]
    lanes = [await answer for answer in asked]
    now_ms = int(time.time() * 1000)
    calls = [
        scripts.CANCEL.call(
            [record, lane or b""],
            keys.GROUP, request_id, now_ms, ttl_ms, keys.finished(model), int(only_waiting),
        )
        for record, lane, request_id in zip(records, lanes, ids, strict=True)
    ]  # fmt: skip
    replies = await broker.run_all(calls)
    return sum(reply == 1 for reply in replies)
