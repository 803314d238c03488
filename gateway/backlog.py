"""How much waits for each model version, and what is refused because of it.

A prediction costs a comparison and an addition here. Several times a second Redis is asked what really waits:
other gateways and producers queue, too.
"""

import asyncio
import logging
import math
import time
from typing import Any

import hiredis

from marq import keys
from marq.broker import Broker
from marq.errors import QueueFull, ServiceUnavailable, TooManyJobs
from marq.registry import ModelSpec

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
LONGEST_RETRY_S = 60
FULL_AT = 0.9  # of Redis's `maxmemory`: what is left is for replies and acknowledgements
LOW_ON_MEMORY = "Redis has used {used} of {limit} bytes of memory (maxmemory); new requests would not fit."


class Backlog:
    """What no replica has taken yet: as Redis said at the last look, and what this gateway has queued and
    seen answered since."""

    __slots__ = ("_job_limit", "_limit", "drained_per_s", "limit", "reason", "spec", "taken", "waiting")

    def __init__(self, spec: ModelSpec, job_limit: int) -> None:
        self.waiting = 0
        self.taken: int | None = None  # by replicas, since the lanes exist
        self.drained_per_s = 0.0
        self.reason = ""  # why everything is refused
        self.configure(spec, job_limit)

    def configure(self, spec: ModelSpec, job_limit: int) -> None:
        self.spec, self._limit, self._job_limit = spec, spec.job_queue_size, job_limit
        self.limit = 0 if self.reason else self._limit

    def admit(self) -> None:
        """Counts a prediction that is about to be queued. Raises QueueFull with the time to wait."""
        if self.waiting >= self.limit:
            raise self._refusal(QueueFull, "jobQueueSize", self._limit)
        self.waiting += 1

    def admit_job(self) -> None:
        """The same for a job. Raises TooManyJobs, or QueueFull where no request at all is taken."""
        if self.reason:
            raise self._refusal(QueueFull, "maxmemory", 0)
        if self.waiting >= self._job_limit:
            raise self._refusal(TooManyJobs, "max_queued_jobs", self._job_limit)
        self.waiting += 1

    def refuse(self, reason: str) -> None:
        """Refuses everything for this reason; an empty one ends that."""
        self.reason = reason
        self.limit = 0 if reason else self._limit

    def note(self, waiting: int, taken: int | None, seconds: float) -> None:
        """What Redis says, so long after the last time."""
        self.waiting = waiting
        if taken is not None and self.taken is not None:
            self.drained_per_s += (max(0, taken - self.taken) / seconds - self.drained_per_s) / 2
        self.taken = taken

    def _refusal(self, kind: type[QueueFull], name: str, limit: int) -> QueueFull:
        why = self.reason or (
            f'Model "{self.spec.name}": the queue of version {self.spec.version} is full: '
            f"{self.waiting} requests wait, and {name} allows {limit}."
        )
        retry_after_s = self._retry_after_s()
        return kind(f"{why} Try again in {retry_after_s} s.", retry_after_s)

    def _retry_after_s(self) -> int:
        """How long what waits will take, at the rate of the last seconds."""
        rate = self.drained_per_s
        return min(LONGEST_RETRY_S, max(1, math.ceil(self.waiting / rate))) if rate > 0 else 1


class Backlogs:
    """The backlogs of all model versions, kept true."""

    def __init__(self, job_limit: int) -> None:
        self._job_limit = job_limit
        self._known: dict[str, Backlog] = {}
        self._looked = time.monotonic()
        self._reason = ""

    def of(self, spec: ModelSpec) -> Backlog:
        """The one backlog of a model version, with the limits of its spec."""
        if known := self._known.get(spec.key):
            known.configure(spec, self._job_limit)
            return known
        made = self._known[spec.key] = Backlog(spec, self._job_limit)
        made.refuse(self._reason)
        return made

    def keep(self, model_keys: set[str]) -> None:
        """Forgets the versions that are not registered any more."""
        for key in self._known.keys() - model_keys:
            del self._known[key]

    async def follow(self, broker: Broker) -> None:
        """Looks again and again; never returns. What cannot be asked stays as it was."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look(broker)
            except (hiredis.ReplyError, ConnectionError, ServiceUnavailable) as error:
                log.debug("the backlog cannot be read: %s", error)

    async def _look(self, broker: Broker) -> None:
        now = time.monotonic()
        seconds, self._looked = now - self._looked, now
        busy = [backlog for backlog in self._known.values() if backlog.waiting or backlog.drained_per_s > 0.1]
        memory, *read = await asyncio.gather(
            broker.execute("INFO", "memory"), *(_read(broker, backlog.spec) for backlog in busy)
        )
        for backlog, (waiting, taken) in zip(busy, read, strict=True):
            backlog.note(waiting, taken, seconds)
        self._judge_memory(memory)

    def _judge_memory(self, info: bytes) -> None:
        stored = dict(line.split(":", 1) for line in info.decode().split() if ":" in line)
        used, limit = int(stored.get("used_memory", 0)), int(stored.get("maxmemory", 0))
        reason = LOW_ON_MEMORY.format(used=used, limit=limit) if limit and used > FULL_AT * limit else ""
        if bool(reason) != bool(self._reason):
            log.warning("%s", reason or "Redis has room again.")
        if reason or self._reason:
            for backlog in self._known.values():
                backlog.refuse(reason)
        self._reason = reason


async def _read(broker: Broker, spec: ModelSpec) -> tuple[int, int | None]:
    """(rows that wait, rows that replicas have taken so far; None before Redis 7)."""
    names = keys.lanes(spec.name, spec.version)
    lanes = await asyncio.gather(*(_read_lane(broker, name) for name in names))
    taken = [number for _, number in lanes if number is not None]
    return sum(waiting for waiting, _ in lanes), sum(taken) if taken else None


async def _read_lane(broker: Broker, lane: str) -> tuple[int, int | None]:
    length = broker.execute("XLEN", lane)
    try:
        group = _group(await broker.execute("XINFO", "GROUPS", lane))
    except hiredis.ReplyError:  # unregistered at this moment
        return 0, None
    return max(0, await length - group.get("pending", 0)), group.get("entries-read")


def _group(found: list[list[Any]]) -> dict[str, int]:
    """The numbers of XINFO GROUPS for marq's one group."""
    for flat in found:
        pairs = dict(zip(flat[::2], flat[1::2], strict=True))
        if pairs.get(b"name") == keys.GROUP.encode():
            return {name.decode(): value for name, value in pairs.items() if isinstance(value, int)}
    return {}
