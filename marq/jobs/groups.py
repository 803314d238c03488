"""Groups: jobs of one model that were queued together; all of them have the tag `group=ID`."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self

import hiredis

from marq.errors import BadRequest, JobNotFound, QueueUnavailable
from marq.jobs import listing
from marq.jobs.cancellation import Cancelled, cancel_many
from marq.jobs.listing import MOST, JobFilter
from marq.jobs.options import MOST_TAGS, JobOptions
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.ids import JobId, new_id
from marq.queue.jobs import (
    EXISTS,
    IDEMPOTENCY,
    OTHER_DIGEST,
    OVER_QUOTA,
    Row,
    expect_webhooks,
    submit_command,
)

TAG = "group="


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

    def options(self, given: JobOptions) -> JobOptions:
        """The options of its jobs. Raises BadRequest."""
        tags = tuple(given.tags)
        if len(tags) >= MOST_TAGS:
            raise BadRequest(f"tags must be up to {MOST_TAGS - 1} for a batch, whose group is one more")
        return replace(given, tags=(*tags, self.tag))


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


async def counts(broker: Broker, group: Group) -> dict[str, int]:
    """How many of its jobs are in each state; in a few steps, however many there are.

    Raises JobNotFound when there is none any more.
    """
    found = (await listing.page(broker, [group.model], JobFilter(tag=group.tag), 1)).counts
    if not any(found.values()):
        raise JobNotFound(f"Group not found: {group}; a group is kept as long as the record of its last job.")
    return found


async def cancel(broker: Broker, group: Group, ttl_ms: int) -> Cancelled:
    """Cancels all its jobs that have not finished. Raises ServiceUnavailable."""
    cancelled = 0
    while True:
        done = await cancel_many(broker, group.model, JobFilter(tag=group.tag), MOST, ttl_ms)
        cancelled += done.cancelled
        if not (done.remaining and done.cancelled):
            return Cancelled(cancelled, done.remaining)
