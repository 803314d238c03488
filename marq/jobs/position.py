"""The position of a queued job."""

import asyncio

import hiredis

from marq import keys
from marq.queue.broker import Broker
from marq.queue.ids import JobId
from marq.queue.job_records import QUEUED, JobRecord


async def position(broker: Broker, record: JobRecord) -> int | None:
    """About the place of a job among those that wait: 1 is the next. None for a job that is not queued.

    It costs a few commands, however long the queue is. Jobs of higher priority come first; requests that
    replicas hold already do not count.
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
    return int(max(0, rank + sum(waiting) - sum(each[0] for each in held))) + 1
