"""The events of one job; a reader can resume them after a lost connection."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from marq import keys
from marq.errors import ServiceUnavailable
from marq.jobs.jobs import RECHECK_S, Jobs
from marq.queue import job_records
from marq.queue.ids import JobId
from marq.queue.job_records import FINISHED, STATES, JobRecord, Progress, completes

SILENCE_S = 15.0  # after which something is sent, so that no proxy closes the connection


@dataclass(frozen=True)
class Position:
    """How far a reader is: the last state that it knows, and the parts of an attempt that it has."""

    state: str = ""
    attempt: int = 0
    parts: int = 0
    progress: Progress | None = None  # not in the text: a reader that comes back gets the newest once more

    def __str__(self) -> str:
        return f"{self.state}.{self.attempt}.{self.parts}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The beginning, for a text that is not a position."""
        state, *numbers = text.split(".")
        if state not in STATES or len(numbers) != 2 or not all(each.isdecimal() for each in numbers):
            return cls()
        attempt, parts = (int(each[:9]) for each in numbers)
        return cls(state, attempt, parts)

    @property
    def is_end(self) -> bool:
        return self.state in FINISHED


@dataclass(frozen=True)
class Event:
    """`id`: the position after it. `kind`: `state`, `progress`, `part`; `restart`: the parts begin again."""

    id: Position
    kind: str
    data: dict[str, object]

    def encode(self) -> bytes:
        """As server-sent events have it."""
        return f"id: {self.id}\nevent: {self.kind}\ndata: {json.dumps(self.data)}\n\n".encode()


SILENCE = b": \n\n"  # a comment


@dataclass(frozen=True)
class _Look:
    record: JobRecord
    begin: bytes  # of a streamed answer
    parts: list[bytes]

    @property
    def attempt(self) -> int:
        return int(json.loads(self.begin)["attempt"]) if self.begin else 0


async def follow(jobs: Jobs, public_id: str, after: Position) -> AsyncIterator[bytes]:
    """The encoded events after a position; see `changes`."""
    async for event in changes(jobs, public_id, after):
        yield event.encode() if event else SILENCE


async def changes(jobs: Jobs, public_id: str, after: Position) -> AsyncIterator[Event | None]:
    """The events after a position, until the job has ended or the gateway ends; None after some silence.

    States that last less than a second may be missing, but not the last one, nor a part. Raises JobNotFound.
    """
    job, position, silent_s = JobId.parse(public_id), after, 0.0
    with jobs.watch(job) as changed:
        while True:
            for event in await _new(jobs, job, position):
                position, silent_s = event.id, 0.0
                yield event
            if position.is_end or jobs.ends_waits:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), RECHECK_S)
            if not changed.is_set():
                silent_s += RECHECK_S
            changed.clear()
            if silent_s >= SILENCE_S:
                silent_s = 0.0
                yield None


async def _new(jobs: Jobs, job: JobId, position: Position) -> list[Event]:
    """The events since a position; none while Redis is away."""
    try:
        look = await _look(jobs, job, position.parts)
        if look.begin and look.attempt != position.attempt and position.parts:
            look = await _look(jobs, job, 0)
    except (ServiceUnavailable, ConnectionError):
        return []
    return list(_events(look, position))


def _events(look: _Look, position: Position) -> Iterator[Event]:
    """The events between a position and the state that was seen."""
    record = look.record
    if look.begin and look.attempt != position.attempt:
        restarts = position.parts > 0
        position = replace(position, attempt=look.attempt, parts=0)
        if restarts:
            yield Event(position, "restart", {"attempt": look.attempt})
    if record.state != position.state and not record.is_finished:
        position = replace(position, state=record.state)
        yield Event(position, "state", record.to_dict())
    if record.progress and record.progress != position.progress:
        position = replace(position, progress=record.progress)
        yield Event(position, "progress", record.progress.to_dict())
    last = [record.body] if record.is_finished and look.begin and record.body else []
    if last and not completes(look.begin, record.status or 0):
        last = []  # it has failed after its first part; the body is the error
    for part in [*look.parts, *last]:
        position = replace(position, parts=position.parts + 1)
        yield Event(position, "part", {"part": position.parts, **_readable(part)})
    if record.is_finished:
        yield Event(replace(position, state=record.state), "state", record.to_dict())


def _readable(part: bytes) -> dict[str, object]:
    try:
        return {"text": part.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(part).decode()}


async def _look(jobs: Jobs, job: JobId, parts_seen: int) -> _Look:
    """The record, read before the parts, so that a finished job has all of them."""
    flat = await jobs.broker.execute("HGETALL", keys.job(job.model, job.request_id))
    stored = dict(zip(flat[::2], flat[1::2], strict=True))
    query = job_records.pending_query(stored)
    record = job_records.parse_record(job, stored, await jobs.running_for_ms(query) if query else None)
    if b"streamed" not in stored:
        return _Look(record, b"", [])
    begin, parts = await jobs.parts(keys.parts(job.model, job.request_id), parts_seen + 1)
    return _Look(record, begin, parts)
