"""Groups: jobs of one model that were queued together; all of them have the tag `group=ID`.

Each has a record, which counts its jobs in the scripts that queue and end them (marq/queue/lua/ends.lua).
"""

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self

import hiredis

from marq import keys
from marq.connections.urls import Command
from marq.errors import BadRequest, JobNotFound, QueueUnavailable, ServiceUnavailable
from marq.jobs import listing
from marq.jobs.cancellation import Cancelled, cancel_many
from marq.jobs.listing import MOST, JobFilter
from marq.jobs.options import MOST_TAGS, JobOptions
from marq.jobs.submission import (
    EXISTS,
    IDEMPOTENCY,
    OTHER_DIGEST,
    OVER_QUOTA,
    Row,
    expect_webhooks,
    submit_command,
)
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.entries import DEFAULT_TTL_MS
from marq.queue.ids import JobId, new_id
from marq.queue.job_records import FINISHED, QUEUED, RUNNING, SCHEDULED

TAG = "group="
OPEN_MS = 120_000  # without a sign of its gateway an upload counts as ended
RENEW_S = 30.0


@dataclass(frozen=True)
class Group:
    """A group. With an idempotency key, the same key and model make the same group, and its nth body the same
    job."""

    model: str
    name: str
    key: str = ""

    @classmethod
    def new(cls, model: str, key: str = "") -> Self:
        name = str(uuid.uuid5(IDEMPOTENCY, f"{model}:group:{key}")) if key else new_id().decode()
        return cls(model, name, key)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises JobNotFound for a text that is not the id of a group."""
        try:
            job = JobId.parse(text)
        except JobNotFound:
            raise JobNotFound(f"Group not found: {text}") from None
        return cls(job.model, job.request_id)

    def __str__(self) -> str:
        return f"{self.model}:{self.name}"

    @property
    def tag(self) -> str:
        return TAG + self.name

    def request_id(self, number: int) -> bytes:
        """The id of the job of the nth body."""
        return str(uuid.uuid5(IDEMPOTENCY, f"{self}:{number}")).encode() if self.key else new_id()

    @property
    def digest(self) -> bytes:
        """Of the jobs of a group with a key: submit.lua queues each once."""
        return hashlib.sha256(f"group:{self.key}".encode()).hexdigest().encode() if self.key else b""

    def options(self, given: JobOptions, webhook_url: str = "") -> JobOptions:
        """The options of its jobs; `webhook_url`: that of the model. Raises BadRequest.

        A webhook that names no events is that of the group alone.
        """
        tags = tuple(given.tags)
        if len(tags) >= MOST_TAGS:
            raise BadRequest(f"tags must be up to {MOST_TAGS - 1} for a batch, whose group is one more")
        is_of_group = given.webhook is not None and not given.webhook_events
        of_jobs = replace(given, webhook=None) if is_of_group else given.of_model(webhook_url)
        return replace(of_jobs, tags=(*tags, self.tag))


class Queued(Enum):
    """The fate of one row."""

    NEW = "new"
    KNOWN = "known"  # its job exists, or that of another request with its id
    OVER_QUOTA = "over quota"  # of its caller


async def queue(broker: Broker, group: Group, version: str, lane: str, rows: Sequence[Row]) -> list[Queued]:
    """Queues jobs that have the same head. Raises ServiceUnavailable."""
    script_keys, arguments = submit_command(group.model, version, lane, rows, group.digest)
    try:
        if b"webhook" in rows[0][1].head.options:
            await expect_webhooks(broker, group.model)
        results = await broker.run(scripts.SUBMIT, script_keys, *arguments)
    except hiredis.ReplyError as error:
        raise QueueUnavailable(f"Redis refused the requests: {error}") from None
    fates = {EXISTS: Queued.KNOWN, OTHER_DIGEST: Queued.KNOWN, OVER_QUOTA: Queued.OVER_QUOTA}
    return [fates.get(result, Queued.NEW) for result in results]


@dataclass(frozen=True)
class GroupState:
    """A group as it is now. `is_finished`: all its jobs have ended, and no more come."""

    counts: dict[str, int]
    is_finished: bool

    @property
    def jobs(self) -> int:
        return sum(self.counts.values())


async def find(broker: Broker, group: Group) -> GroupState:
    """How many of its jobs are, or have ended, in each state; in a few steps, however many there are.

    Raises JobNotFound when its record has expired.
    """
    counts = (await listing.page(broker, [group.model], JobFilter(tag=group.tag), 1)).counts
    names = ("left", "uploading", "finished", *FINISHED)
    values = await broker.execute("HMGET", keys.group(group.model, group.name), *names)
    record = dict(zip(names, values, strict=True))
    if record["left"] is None:
        raise JobNotFound(f"Group not found: {group}; a group is kept as long as the record of its last job.")
    counts |= {state: int(record[state] or 0) for state in FINISHED}
    left = int(record["left"])
    for state in (SCHEDULED, RUNNING):  # some may have ended since the list was read
        counts[state] = min(counts[state], left)
        left -= counts[state]
    counts[QUEUED] = left
    return GroupState(counts, record["finished"] is not None and record["uploading"] is None)


async def open_group(
    broker: Broker, group: Group, version: str, options: JobOptions, ttl_ms: int = DEFAULT_TTL_MS
) -> Command:
    """Makes the record of a group, or finds it, and keeps the group from finishing for OPEN_MS.

    When it has finished, the webhook of the options gets a message. `ttl_ms`: how long it is kept then,
    unless the options say so. Returns the command that opens it again. Raises ServiceUnavailable.
    """
    kept_ms = round(1000 * options.result_ttl) if options.result_ttl else ttl_ms
    opening = scripts.OPEN_GROUP.call(
        [keys.group(group.model, group.name), keys.uploads(group.model)],
        group.name, OPEN_MS, kept_ms, version, ",".join(options.tags), options.webhook or "",
    )  # fmt: skip
    try:
        if options.webhook:
            await expect_webhooks(broker, group.model)
        await broker.run_all([opening])
    except hiredis.ReplyError as error:
        raise QueueUnavailable(f"Redis refused the group: {error}") from None
    return opening


@contextlib.asynccontextmanager
async def uploading(broker: Broker, group: Group, opening: Command) -> AsyncIterator[None]:
    """Keeps a group open, and closes it at the end of the block; after an error, OPEN_MS later."""
    renewing = asyncio.create_task(_renew(broker, opening))
    try:
        yield
    finally:
        renewing.cancel()
    with contextlib.suppress(ServiceUnavailable, hiredis.ReplyError):
        await broker.run(scripts.CLOSE_GROUP, [keys.group(group.model, group.name)])


async def _renew(broker: Broker, opening: Command) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        with contextlib.suppress(ServiceUnavailable, hiredis.ReplyError):
            await broker.run_all([opening])


async def cancel(broker: Broker, group: Group, ttl_ms: int) -> Cancelled:
    """Cancels all its jobs that have not finished. Raises ServiceUnavailable."""
    cancelled = 0
    while True:
        done = await cancel_many(broker, group.model, JobFilter(tag=group.tag), MOST, ttl_ms)
        cancelled += done.cancelled
        if not (done.remaining and done.cancelled):
            return Cancelled(cancelled, done.remaining)
