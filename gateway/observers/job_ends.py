"""Passes the ends of jobs, and of runs that are jobs, on to observers: each end to those of one gateway.

A gateway that ends before its observers have seen them leaves them to the others, which take them a minute
later. Without observers there are no logs.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import hiredis

from gateway.inference.predictor import CLIENT_GONE
from gateway.inference.request_hooks import JOB
from gateway.observers.observing import END_S, PAUSE_S, Observing
from marq import keys
from marq.errors import DeadlineExceeded, ServiceError, ServiceUnavailable
from marq.jobs.ends import KEPT_MS
from marq.jobs.jobs import Jobs
from marq.payloads.files import PayloadLost
from marq.plugins.protocols import Finished
from marq.queue import job_records

log = logging.getLogger(__name__)

LOOK_S = 0.5
KEEP_S = 60.0  # between two renewals of a log
LEFT_S = 60.0  # for so long the log of a model that was unregistered is read
ABANDONED_MS = 60_000  # after that, the ends that a gateway has taken are taken by another one
MOST_AT_ONCE = 500  # of one model
GROUP, CONSUMER = "observers", "gateways"
WITHOUT_ANSWER = {job_records.CANCELLED: CLIENT_GONE, job_records.EXPIRED: DeadlineExceeded.status}
Entries = Sequence[tuple[bytes, list[bytes]]]


@dataclass(frozen=True)
class _Taken:
    """Entries of one log that the observers are about to see."""

    log: bytes
    entries: list[bytes]
    noted: list[int]  # for each observer: how many requests it has then seen


class JobEnds:
    """Reads the logs of all models and workflows (`marq.jobs.ends`); these exist from `open` on."""

    def __init__(
        self, jobs: Jobs, names: Callable[[], Collection[str]], observing: Sequence[Observing]
    ) -> None:
        """`names`: of all models and workflows that are registered."""
        self._jobs, self._broker, self._names, self._observing = jobs, jobs.broker, names, observing
        self._open: dict[str, float] = {}  # logs by the moment when they are to be renewed
        self._known: dict[str, float] = {}  # logs by the moment when their model was registered last
        self._taken: list[_Taken] = []
        self._claimed = time.monotonic()

    async def open(self) -> None:
        """Begins the logs of models that are new, and keeps the others. Raises as Broker.execute."""
        if not self._observing:
            return
        now = time.monotonic()
        for name in self._names():
            self._known[keys.job_ends(name)] = now
        for key, registered in list(self._known.items()):
            if now - registered > LEFT_S:
                self._known.pop(key, None)
                self._open.pop(key, None)
            elif self._open.get(key, 0.0) <= now:
                await self._begin(key)
                self._open[key] = now + KEEP_S

    async def _begin(self, key: str) -> None:
        try:
            await self._broker.execute("XGROUP", "CREATE", key, GROUP, "$", "MKSTREAM")
        except hiredis.ReplyError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        await self._broker.execute("PEXPIRE", key, KEPT_MS)

    def forget(self) -> None:
        """Redis may have lost the logs: `open` begins them again."""
        self._open.clear()

    def tasks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What runs in the background, by name."""
        return {"ends of jobs": self.follow} if self._observing else {}

    async def follow(self) -> None:
        """Passes ends on; never returns."""
        while True:
            try:
                while await self.look():
                    await asyncio.sleep(0)
            except (ServiceUnavailable, ConnectionError, hiredis.ReplyError) as error:
                log.debug("the ends of jobs cannot be read now: %s", error)
                self.forget()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> bool:
        """Passes on what is there; whether there may be more. Raises as Broker.execute."""
        await self.acknowledge()
        await self.open()
        if time.monotonic() - self._claimed > ABANDONED_MS / 1000:
            self._claimed = time.monotonic()
            for key in self._open:
                _, found, *_ = await self._broker.execute(
                    "XAUTOCLAIM", key, GROUP, CONSUMER, ABANDONED_MS, "0-0", "COUNT", MOST_AT_ONCE
                )
                await self._pass_on(key.encode(), found)
        if not self._open or min(each.room for each in self._observing) < MOST_AT_ONCE:
            return False
        read = "XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", MOST_AT_ONCE, "STREAMS"
        found = await self._broker.execute(*read, *self._open, *(">" for _ in self._open)) or ()
        for key, entries in found:
            await self._pass_on(key, entries)
        return any(len(entries) == MOST_AT_ONCE for _, entries in found)

    async def acknowledge(self) -> None:
        """Acknowledges the ends that all observers have seen."""
        seen = [each.done for each in self._observing]
        done = [taken for taken in self._taken if all(a >= b for a, b in zip(seen, taken.noted, strict=True))]
        self._taken = [taken for taken in self._taken if taken not in done]
        for taken in done:
            await self._broker.execute("XACK", taken.log, GROUP, *taken.entries)

    async def finish(self) -> None:
        """Returns when the observers have seen what they were given, or after a while. Raises as `open`."""
        end = time.monotonic() + END_S
        while self._taken and time.monotonic() < end:
            await asyncio.sleep(PAUSE_S)
            await self.acknowledge()

    async def _pass_on(self, key: bytes, entries: Entries) -> None:
        taken: list[bytes] = []
        for entry, flat in entries:
            taken.append(entry)
            fields = dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
            if b"ended" in fields:  # else it says that the log has begun
                finished = await self._finished(keys.owner_of(key), fields)
                for each in self._observing:
                    each.note(finished)
        if taken:
            self._taken.append(_Taken(key, taken, [each.noted for each in self._observing]))

    async def _finished(self, model: str, fields: dict[bytes, bytes]) -> Finished:
        status, queued, ended = fields[b"status"], int(fields[b"queued"]), int(fields[b"ended"])
        state = fields[b"state"].decode()
        size = fields.get(b"answer_bytes")
        return Finished(
            model, fields[b"version"].decode(), JOB,
            int(status) if status.isdigit() else WITHOUT_ANSWER.get(state, ServiceError.status),
            ended / 1000, max(0, ended - queued) / 1000, int(fields[b"request_bytes"]),
            await self._size_of(fields[b"answer_ref"]) if size is None else int(size),
        )  # fmt: skip

    async def _size_of(self, ref: bytes) -> int:
        """The bytes of an answer that is a file; 0 where it is not on this host, or not any more."""
        try:
            files = await self._jobs.files_of(ref)
            return files.size(ref)
        except (PayloadLost, OSError):
            return 0
