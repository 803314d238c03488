"""How much waits for each model version, and what is refused because of it.

A prediction costs two comparisons and two additions here.
"""

import math
from dataclasses import dataclass

from marq.errors import QueueFull, TooManyJobs
from marq.registry import ModelSpec

LONGEST_RETRY_S = 60


@dataclass(slots=True)
class Room:
    """How many bytes may still be queued, for all models together."""

    limit: int
    left: int

    def note(self, queued: int) -> None:
        """So many are queued by now, by all gateways."""
        self.left = self.limit - queued


class Backlog:
    """What no replica has taken yet: as Redis said at the last look, and what this gateway has queued and
    seen answered since."""

    __slots__ = (
        "_job_limit", "_limit", "drained_per_s", "limit", "reason", "room", "spec", "taken", "waiting",
    )  # fmt: skip

    def __init__(self, spec: ModelSpec, job_limit: int, room: Room) -> None:
        self.waiting = 0
        self.taken: int | None = None  # by replicas, since the lanes exist
        self.drained_per_s = 0.0
        self.reason = ""  # why everything is refused
        self.room = room
        self.configure(spec, job_limit)

    def configure(self, spec: ModelSpec, job_limit: int) -> None:
        self.spec, self._limit, self._job_limit = spec, spec.job_queue_size, job_limit
        self.limit = 0 if self.reason else self._limit

    def admit(self, size: int) -> None:
        """Counts a prediction of so many bytes that is about to be queued. Raises QueueFull with the time to
        wait."""
        if self.waiting >= self.limit:
            raise self._refusal(QueueFull, self._too_many("jobQueueSize", self._limit))
        if size > self.room.left:
            raise self._refusal(QueueFull, self._too_large(size))
        self.waiting += 1
        self.room.left -= size

    def admit_job(self, size: int) -> None:
        """The same for a job. Raises TooManyJobs, or QueueFull where no request at all is taken."""
        if self.reason:
            raise self._refusal(QueueFull, self.reason)
        if self.waiting >= self._job_limit:
            raise self._refusal(TooManyJobs, self._too_many("max_queued_jobs", self._job_limit))
        if size > self.room.left:
            raise self._refusal(TooManyJobs, self._too_large(size))
        self.waiting += 1
        self.room.left -= size

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

    def _too_many(self, name: str, limit: int) -> str:
        return self.reason or (
            f'Model "{self.spec.name}": the queue of version {self.spec.version} is full: '
            f"{self.waiting} requests wait, and {name} allows {limit}."
        )

    def _too_large(self, size: int) -> str:
        limit, queued = self.room.limit, self.room.limit - self.room.left
        return f"{queued} bytes are queued; there is no room for {size} more (max_queued_bytes: {limit})."

    def _refusal(self, kind: type[QueueFull], why: str) -> QueueFull:
        retry_after_s = self._retry_after_s()
        return kind(f"{why} Try again in {retry_after_s} s.", retry_after_s)

    def _retry_after_s(self) -> int:
        """How long what waits will take, at the rate of the last seconds."""
        rate = self.drained_per_s
        return min(LONGEST_RETRY_S, max(1, math.ceil(self.waiting / rate))) if rate > 0 else 1
