"""Lists of jobs, from the index that the queue's scripts keep (marq/queue/lua/index.lua)."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from marq import keys
from marq.connections.urls import Command
from marq.errors import BadRequest
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.ids import JobId
from marq.queue.job_records import STATES, JobRecord, parse_record

MOST = 1000  # jobs of a page
AT_ONCE = 50  # models that are asked together
FIELDS = (
    b"state", b"version", b"attempts", b"device", b"queued", b"started", b"finished", b"status", b"priority",
    b"tags", b"replay_of", b"due", b"retried", b"rows",
)  # fmt: skip
AFTER_ALL = "\U0010ffff"  # sorts after every id


@dataclass(frozen=True)
class JobFilter:
    """The jobs that a list has; an empty filter leaves none out."""

    version: str = ""
    state: str = ""
    tag: str = ""


@dataclass(frozen=True, order=True)
class Cursor:
    """The last job of a page: the next page begins after it. Jobs sort by their moment of submission, in
    microseconds of Redis's clock, then by id."""

    moment: int
    model: str
    request_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises BadRequest for a text that no page has given."""
        try:
            moment, _, job_id = base64.urlsafe_b64decode(text.encode()).decode().partition(" ")
            model, _, request_id = job_id.partition(":")
            return cls(int(moment), model, request_id)
        except (ValueError, binascii.Error):
            raise BadRequest(
                f"Parameter after must be the `next` of an earlier page, not {text!r:.100}"
            ) from None

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.moment} {self.model}:{self.request_id}".encode()).decode()

    def limits(self, model: str) -> tuple[int | str, str]:
        """Which jobs of a model follow: those before the moment, and those at it whose id sorts lower."""
        if model == self.model:
            return self.moment, self.request_id
        return self.moment, AFTER_ALL if model < self.model else ""


@dataclass(frozen=True)
class Page:
    """Some jobs, the newest first, and how many of the filter's version and tag are in each state."""

    jobs: list[JobRecord]
    counts: dict[str, int]
    next: Cursor | None  # None: no more jobs follow


async def page(
    broker: Broker, models: Sequence[str], wanted: JobFilter, limit: int, after: Cursor | None = None
) -> Page:
    """A page of the jobs of these models, of at most `limit` jobs. Raises ServiceUnavailable.

    Its cost grows with the page, the models and the jobs that run, not with the jobs that there are.
    """
    counts = dict.fromkeys(STATES, 0)
    found: list[tuple[Cursor, JobRecord | None]] = []
    calls = [_call(model, wanted, limit, after) for model in models]
    for first in range(0, len(calls), AT_ONCE):
        replies = await broker.run_all(calls[first : first + AT_ONCE])
        for model, (numbers, rows) in zip(models[first : first + AT_ONCE], replies, strict=True):
            for state, number in zip(STATES, numbers, strict=True):
                counts[state] += number
            found += [_parse(model, row) for row in rows]
        found = sorted(found, key=lambda row: row[0], reverse=True)[:limit]
    following = found[-1][0] if len(found) == limit else None
    return Page([record for _, record in found if record], counts, following)


def _call(model: str, wanted: JobFilter, limit: int, after: Cursor | None) -> Command:
    moment, request_id = after.limits(model) if after else ("+inf", "")
    return scripts.JOBS.call(
        [keys.jobs(model)],
        keys.GROUP, wanted.version, wanted.tag, wanted.state, limit, moment, request_id, *FIELDS,
    )  # fmt: skip


def _parse(model: str, row: tuple[bytes, bytes, int, list[bytes | None]]) -> tuple[Cursor, JobRecord | None]:
    """A job and its place in the list; None for a job whose record has just expired."""
    moment, request_id, running_for_ms, values = row
    stored = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
    job = JobId(model, request_id.decode())
    place = Cursor(int(moment), model, job.request_id)
    if b"state" not in stored:
        return place, None
    return place, parse_record(job, stored, running_for_ms if running_for_ms >= 0 else None)
