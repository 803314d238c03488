"""Corrects the backlogs: several times a second Redis is asked for the queued rows and its free memory.

Other gateways and producers queue, too.
"""

import asyncio
import logging
import time

import hiredis

from gateway.routing.queue_limits import Backlog, Room
from marq import keys
from marq.errors import ServiceUnavailable
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.registry.spec import ModelSpec

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
IDLE_AT_ONCE = 100  # models with empty queues that one look reads
FULL_AT = 0.9  # of Redis's `maxmemory`: the rest is for replies and acknowledgements
LOW_ON_MEMORY = "Redis has used {used} of {limit} bytes of memory (maxmemory); new requests would not fit."
AT_A_TIME = 20  # models in one call: a script holds up all other commands
MEASURED = 100  # nodes of a lane, from which Redis estimates its size


class Backlogs:
    """The backlogs of all model versions."""

    def __init__(self, job_limit: int, byte_limit: int) -> None:
        self._job_limit = job_limit
        self._room = Room(byte_limit, byte_limit)
        self._known: dict[str, Backlog] = {}
        self._sizes: dict[str, int] = {}  # bytes in the lanes, by the same keys
        self._looks = 0
        self._reason = ""
        self._warned = False

    def of(self, spec: ModelSpec) -> Backlog:
        """The one backlog of a model version, with the limits of its spec."""
        if known := self._known.get(spec.key):
            known.configure(spec, self._job_limit)
            return known
        made = self._known[spec.key] = Backlog(spec, self._job_limit, self._room)
        made.refuse(self._reason)
        return made

    def keep(self, model_keys: set[str]) -> None:
        """Forgets the versions that are not registered any more."""
        for key in self._known.keys() - model_keys:
            del self._known[key]
            self._sizes.pop(key, None)

    async def follow(self, broker: Broker) -> None:
        """Asks Redis at intervals; never returns. Backlogs that cannot be read stay as they were."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look(broker)
            except (hiredis.ReplyError, ConnectionError, ServiceUnavailable) as error:
                log.debug("the backlog cannot be read: %s", error)

    async def _look(self, broker: Broker) -> None:
        every = 1 + len(self._known) // IDLE_AT_ONCE
        read = [
            backlog
            for number, backlog in enumerate(self._known.values(), self._looks)
            if self._is_busy(backlog) or number % every == 0
        ]
        self._looks += 1
        left = self._room.left
        found = await _read(broker, read)
        admitted_bytes = max(0, left - self._room.left)
        now = time.monotonic()
        for backlog, (waiting, taken, size, known) in zip(read, found, strict=True):
            admitted = max(0, backlog.waiting - known)
            backlog.note(waiting + admitted, taken if taken >= 0 else None, now)
            if self._known.get(backlog.spec.key) is backlog:  # it may have been unregistered meanwhile
                self._sizes[backlog.spec.key] = size
        beside = broker.body_keys.held + (broker.folder.held if broker.folder else 0)
        self._room.note(sum(self._sizes.values()) + beside + admitted_bytes)
        self._judge_memory(await self._read_memory(broker))

    def _is_busy(self, backlog: Backlog) -> bool:
        return backlog.waiting > 0 or self._sizes.get(backlog.spec.key, 0) > 0

    async def _read_memory(self, broker: Broker) -> bytes:
        """Redis's report on its memory; empty if this user must not ask for it."""
        try:
            info: bytes = await broker.execute("INFO", "memory")
        except hiredis.ReplyError as error:
            if not self._warned:
                log.warning(
                    "low memory of Redis refuses no requests, because INFO is not allowed: %s",
                    error,
                )
            self._warned = True
            return b""
        return info

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


async def _read(broker: Broker, backlogs: list[Backlog]) -> list[list[int]]:
    """The answer of `backlog.lua` for each version, several at a time, and what was known when it was asked.

    Zeros stand for lanes that cannot be read: those of the other models still can.
    """
    parts = [backlogs[first : first + AT_A_TIME] for first in range(0, len(backlogs), AT_A_TIME)]
    found: list[list[int]] = []
    for answers in await asyncio.gather(*(_read_part(broker, part) for part in parts)):
        found += answers
    return found


async def _read_part(broker: Broker, backlogs: list[Backlog]) -> list[list[int]]:
    specs = [backlog.spec for backlog in backlogs]
    lanes = [lane for spec in specs for lane in keys.lanes(spec.name, spec.version)]
    before = [backlog.waiting for backlog in backlogs]
    try:
        found: list[list[int]] = await broker.run(
            scripts.BACKLOG, lanes, keys.GROUP, MEASURED, len(lanes) // len(specs)
        )
    except hiredis.ReplyError as error:
        if len(specs) == 1:
            log.warning("the lanes of %s cannot be read: %s", specs[0].key, error)
            return [[0, -1, 0, before[0]]]
        return [answer for backlog in backlogs for answer in await _read_part(broker, [backlog])]
    return [[*answer, known] for answer, known in zip(found, before, strict=True)]
