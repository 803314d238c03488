"""The position of a queued job."""

import asyncio
import math

import hiredis

from marq import keys
from marq.queue.broker import Broker
from marq.queue.ids import JobId
from marq.queue.job_records import QUEUED, JobRecord

WEIGHT = b"weight:"
IN_LANE = 32  # of callers.lua


async def position(broker: Broker, record: JobRecord) -> int | None:
    """About the place of a job among those that wait: 1 is the next. None for a job that is not queued.

    It costs a few commands, however long the queue is. Jobs of higher priority come first; requests that
    replicas hold already do not count. Where callers take turns, so many jobs of the others come first as
    their weights say.
    """
    if record.state != QUEUED or record.priority not in keys.LANES:
        return None
    job, version = JobId.parse(record.id), record.version
    ahead = keys.LANES[: keys.LANES.index(record.priority)]
    sets = {name: f"{keys.jobs(job.model)}{name}::{version}" for name in (*ahead, record.priority)}
    lanes = [keys.lane(job.model, version, name) for name in (keys.FRONT, *sets)]
    asked = [
        broker.execute("ZRANK", sets[record.priority], job.request_id),
        *(broker.execute("ZCARD", sets[name]) for name in ahead),
        *(broker.execute("XPENDING", lane, keys.GROUP) for lane in lanes),
    ]
    try:
        rank, *numbers = await asyncio.gather(*asked)
    except hiredis.ReplyError:  # the model was unregistered
        return None
    if rank is None:  # it has been taken meanwhile, or was queued by an older version of marq
        return None
    waiting, held = numbers[: len(ahead)], numbers[len(ahead) :]
    place = int(max(0, rank + sum(waiting) - sum(each[0] for each in held))) + 1
    return await _in_turns(broker, job, version or "", record.priority, place)


async def _in_turns(broker: Broker, job: JobId, version: str, lane: str, place: int) -> int:
    """The place of a job whose place by its moment of submission is this one."""
    flat, caller = await asyncio.gather(
        broker.execute("HGETALL", keys.held_counts(job.model, version)),
        broker.execute("HGET", keys.job(job.model, job.request_id), "held"),
    )
    start = f"{lane} ".encode()
    held = {
        field.removeprefix(start): int(number)
        for field, number in zip(flat[::2], flat[1::2], strict=True)
        if field.startswith(start)
    }
    if not held:
        return place
    if caller is None:
        return min(place, IN_LANE)
    rank, rules = await asyncio.gather(
        broker.execute("ZRANK", keys.held(job.model, version, lane, caller.decode()), job.request_id),
        broker.execute("HGETALL", keys.callers(job.model, version)),
    )
    weights = {
        name: float(value) for name, value in zip(rules[::2], rules[1::2], strict=True) if WEIGHT in name
    }
    own = int(rank or 0) + 1
    turns = own / weights.get(WEIGHT + caller, 1.0)
    others = (
        min(number, math.ceil(turns * weights.get(WEIGHT + other, 1.0)))
        for other, number in held.items()
        if other != caller
    )
    return min(place, IN_LANE + own + sum(others))
