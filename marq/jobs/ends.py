"""The ends of a model's jobs, as events that a reader can go on with after a lost connection.

The script that ends a job adds it to a log, which exists while somebody reads it and for an hour after.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from marq import keys
from marq.errors import BadRequest, JobNotFound, ServiceUnavailable
from marq.jobs import groups, listing
from marq.jobs.events import SILENCE, SILENCE_S
from marq.jobs.groups import Group
from marq.jobs.jobs import Jobs
from marq.jobs.listing import JobFilter
from marq.queue.broker import Broker

KEPT_MS = 3_600_000  # after the last look of a reader
LOOK_S = 0.5
AT_ONCE = 500
ID = re.compile(r"\d{1,19}-\d{1,19}")


@dataclass(frozen=True)
class Wanted:
    """The jobs that a reader follows. `group`: its jobs, which have the tag, until it has finished."""

    model: str
    tag: str = ""
    group: Group | None = None

    @property
    def log(self) -> str:
        return keys.job_ends(self.model)


@dataclass(frozen=True)
class EndEvent:
    """`kind`: `open`, `ended`, `missed`, or `finished` of a group. `id`: a reader goes on after it."""

    id: str
    kind: str
    data: dict[str, object]

    def encode(self) -> bytes:
        """As server-sent events have it."""
        return f"id: {self.id}\nevent: {self.kind}\ndata: {json.dumps(self.data)}\n\n".encode()


def follow(jobs: Jobs, wanted: Wanted, last: str) -> AsyncGenerator[bytes, None]:
    """The encoded events after the one with the id `last`, or from now on; see `changes`."""
    return _encoded(changes(jobs, wanted, last))


async def _encoded(events: AsyncGenerator[EndEvent | None, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(events):
        async for event in events:
            yield event.encode() if event else SILENCE


def changes(jobs: Jobs, wanted: Wanted, last: str) -> AsyncGenerator[EndEvent | None, None]:
    """The events after the one with the id `last`, or from now on; None after some silence.

    Raises BadRequest for a text that is not an id.
    """
    if last and not ID.fullmatch(last):
        raise BadRequest(
            f"Last-Event-ID must be the id of an event, such as 1764331200000-0, not {last!r:.100}"
        )
    return _events(jobs, wanted, last)


async def _events(jobs: Jobs, wanted: Wanted, last: str) -> AsyncGenerator[EndEvent | None, None]:
    broker, silent_s = jobs.broker, 0.0
    first, newest = await _open(broker, wanted)
    place = last or newest
    if not last:
        yield EndEvent(place, "open", {"counts": await _counts(broker, wanted)})
    elif _number(first) > _number(last):
        yield EndEvent(last, "missed", {})
    while True:
        look = await _look(broker, wanted, place)
        place = look.place
        for event in look.events:
            yield event
        if look.is_last or jobs.ends_waits:
            return
        if look.is_full:
            continue
        await asyncio.sleep(LOOK_S)
        silent_s = 0.0 if look.events else silent_s + LOOK_S
        if silent_s >= SILENCE_S:
            silent_s = 0.0
            yield None
            with contextlib.suppress(ServiceUnavailable):
                await _open(broker, wanted)


@dataclass(frozen=True)
class _Look:
    events: list[EndEvent]
    place: str  # the last entry that was read
    is_full: bool = False  # more entries may follow
    is_last: bool = False


async def _look(broker: Broker, wanted: Wanted, place: str) -> _Look:
    """The events since a place; none while Redis is away."""
    try:  # the group before the log is read
        group = await groups.find(broker, wanted.group) if wanted.group else None
        entries = await broker.execute("XRANGE", wanted.log, f"({place}", "+", "COUNT", AT_ONCE)
    except ServiceUnavailable:
        return _Look([], place)
    except JobNotFound:  # it has expired
        return _Look([], place, is_last=True)
    events: list[EndEvent] = []
    for entry, flat in entries:
        place = entry.decode()
        if data := _ended(wanted, dict(zip(flat[::2], flat[1::2], strict=True))):
            events.append(EndEvent(place, "ended", data))
    is_full = len(entries) == AT_ONCE
    if group and group.is_finished and not is_full:
        events.append(EndEvent(place, "finished", {"counts": group.counts}))
        return _Look(events, place, is_last=True)
    return _Look(events, place, is_full)


async def _open(broker: Broker, wanted: Wanted) -> tuple[str, str]:
    """Keeps the log for a while, and begins it unless it exists; the ids of its first and last entries."""
    if not await broker.execute("PEXPIRE", wanted.log, KEPT_MS):
        await broker.execute("XADD", wanted.log, "*", "began", "1")
        await broker.execute("PEXPIRE", wanted.log, KEPT_MS)
    first = await broker.execute("XRANGE", wanted.log, "-", "+", "COUNT", 1)
    newest = await broker.execute("XREVRANGE", wanted.log, "+", "-", "COUNT", 1)
    return first[0][0].decode(), newest[0][0].decode()


async def _counts(broker: Broker, wanted: Wanted) -> dict[str, int]:
    if wanted.group:
        return (await groups.find(broker, wanted.group)).counts
    return (await listing.page(broker, [wanted.model], JobFilter(tag=wanted.tag), 1)).counts


def _ended(wanted: Wanted, fields: dict[bytes, bytes]) -> dict[str, object] | None:
    """The data of an event; None for jobs that the reader does not follow."""
    tags = [tag for tag in fields.get(b"tags", b"").decode().split(",") if tag]
    if b"id" not in fields or (wanted.tag and wanted.tag not in tags):
        return None
    status = fields[b"status"].decode()
    return {
        "job_id": f"{wanted.model}:{fields[b'id'].decode()}",
        "version": fields[b"version"].decode(),
        "state": fields[b"state"].decode(),
        "status": int(status) if status.isdigit() else None,
        "tags": tags,
    }


def _number(entry: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry.split("-"))
