"""The number of queued requests of each model version, and the limits that refuse more.

A prediction costs two comparisons and two additions here.
"""

import math
from dataclasses import dataclass

from marq.errors import QueueFull, TooManyJobs
from marq.registry.spec import ModelSpec

LONGEST_RETRY_S = 60
REMEMBERED_S = 10.0  # older rates count for less and less


@dataclass(slots=True)
class Room:
    """How many bytes may still be queued, for all models together."""

    limit: int
    left: int

    def note(self, queued: int) -> None:
        """Takes the number of bytes that all gateways have queued."""
        self.left = self.limit - queued


class Flow:
    """Rows and the time in which they were taken; older ones weigh less."""

    def __init__(self) -> None:
        self._seconds = self._rows = 0.0

    def add(self, seconds: float, rows: int) -> None:
        kept = math.exp(-seconds / REMEMBERED_S)
        self._seconds = self._seconds * kept + seconds
        self._rows = self._rows * kept + rows

    @property
    def rows(self) -> float:
        return self._rows

    @property
    def seconds_for_each(self) -> float:
        """With no row yet: the time observed so far."""
        return self._seconds / max(1.0, self._rows)


class DrainRate:
    """The rate at which replicas take queued rows."""

    def __init__(self) -> None:
        self._always, self._busy = Flow(), Flow()  # `_busy`: while something waited
        self._last: tuple[float, int, bool] | None = None  # when, taken, whether something waited

    def note(self, waiting: int, taken: int, now: float) -> None:
        if self._last:
            noted, before, waited = self._last
            for flow in (self._always, *([self._busy] if waited else [])):
                flow.add(now - noted, max(0, taken - before))
        self._last = now, taken, waiting > 0

    @property
    def is_known(self) -> bool:
        """Whether any row has been taken lately."""
        return self._always.rows >= 1

    @property
    def seconds_for_each(self) -> float:
        """The smaller of two averages, while rows wait and always: a stall may be over at once."""
        return min(self._busy.seconds_for_each, self._always.seconds_for_each)


class Backlog:
    """An estimate of the rows that no replica has taken.

    It is the last value from Redis, adjusted by the requests and answers of this gateway since.
    """

    __slots__ = ("_job_limit", "_limit", "_rate", "limit", "reason", "room", "spec", "waiting")

    def __init__(self, spec: ModelSpec, job_limit: int, room: Room) -> None:
        self.waiting = 0
        self._rate = DrainRate()
        self.reason = ""  # why everything is refused
        self.room = room
        self.configure(spec, job_limit)

    def configure(self, spec: ModelSpec, job_limit: int) -> None:
        self.spec, self._limit, self._job_limit = spec, spec.job_queue_size, job_limit
        self.limit = 0 if self.reason else self._limit

    def admit(self, size: int) -> None:
        """Counts a prediction of `size` bytes that is about to be queued. Raises QueueFull with the time to
        wait."""
        if self.waiting >= self.limit:
            raise self._refusal(QueueFull, self._too_many("jobQueueSize", self._limit))
        if size > self.room.left:
            raise self._refusal(QueueFull, self._too_large(size))
        self.waiting += 1
        self.room.left -= size

    def has_room(self, size: int) -> bool:
        """Whether `admit` would count a prediction of this size now."""
        return self.waiting < self.limit and size <= self.room.left

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

    def forgo(self, size: int) -> None:
        """Takes back the count of a request that was not queued."""
        self.waiting = max(0, self.waiting - 1)
        self.room.left += size

    def refuse(self, reason: str) -> None:
        """Refuses everything for this reason; an empty one ends that."""
        self.reason = reason
        self.limit = 0 if reason else self._limit

    def note(self, waiting: int, taken: int | None, now: float) -> None:
        """Takes the values that Redis had at `now`; `taken`: rows that were ever taken, None: unknown."""
        self.waiting = waiting
        if taken is not None:
            self._rate.note(waiting, taken, now)

    def time_until(self, position: int) -> float | None:
        """Seconds until replicas take the row at this position, at the recent rate; None: unknown."""
        return position * self._rate.seconds_for_each if self._rate.is_known else None

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
        """The time until the queued rows are taken, at the recent rate."""
        return min(LONGEST_RETRY_S, max(1, math.ceil(self.waiting * self._rate.seconds_for_each)))
