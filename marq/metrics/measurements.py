"""The measurements of a process: kept in memory, and added to hashes in Redis about once a second.

Each process adds only the amounts since its last time. So sums are right across gateways, pools and replicas,
and counters outlive the processes that counted. A killed process loses its last second.
"""

import json
import os
import socket
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.connections.urls import Command
from marq.metrics.catalog import Metric

FLUSH_EVERY_S = 1.0
GAUGES_TTL_S = 15  # the gauges of a process that has not written for this time are dropped
HOST_TTL_S = 86_400
SUM, INFINITE = "sum", "+Inf"
HOST = socket.gethostname()

Labels = tuple[str, ...]
Sums = dict[tuple[str, str], float]  # (hash, series) -> the amount to add


@dataclass(frozen=True)
class Series:
    """A field of the hashes, with all facts of a series. `part` is a histogram's bucket or SUM."""

    name: str
    kind: str
    unit: str
    labels: Labels
    values: Labels
    part: str = ""

    @classmethod
    def read(cls, field: bytes) -> "Series":
        name, kind, unit, labels, values, part = json.loads(field)
        return cls(name, kind, unit, tuple(labels), tuple(values), part)


@lru_cache(maxsize=10_000)
def encode(metric: Metric, values: Labels, part: str = "") -> str:
    """The field of one series. Raises ValueError if there is not one value for each label."""
    if len(values) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {metric.labels}, not values for them: {values}")
    return json.dumps([metric.name, metric.kind, metric.unit, metric.labels, values, part])


@lru_cache(maxsize=1000)
def bounds(buckets: tuple[float, ...]) -> Labels:
    """The names of buckets: their upper bounds."""
    return (*(repr(float(bound)) for bound in buckets), INFINITE)


@dataclass
class Measurements:
    """The measurements of one process; may be used by several threads.

    `model`: their model, or empty. A model's counters and histograms are deleted with its registration.
    """

    process: str = field(default_factory=lambda: f"{HOST}-{os.getpid()}")
    _sums: Sums = field(default_factory=lambda: defaultdict(float))
    _gauges: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def increment(self, metric: Metric, values: Labels, amount: float = 1.0, model: str = "") -> None:
        """Adds to a counter."""
        with self._lock:
            self._sums[_hash_of(model), encode(metric, values)] += amount

    def set(self, metric: Metric, values: Labels, value: float) -> None:
        """Sets a gauge; of several processes that set the same one, the last counts."""
        with self._lock:
            self._gauges[encode(metric, values)] = f"{float(value)!r} {time.time():.3f}"

    def observe(self, metric: Metric, values: Labels, value: float, model: str = "") -> None:
        """Adds one value to a histogram."""
        counts = [0] * (len(metric.buckets) + 1)
        counts[bisect_left(metric.buckets, value)] = 1
        self.merge(metric, values, counts, value, model)

    def merge(
        self, metric: Metric, values: Labels, counts: Sequence[int], total: float, model: str = ""
    ) -> None:
        """Adds many values to a histogram: the count of each bucket, and their sum."""
        target = _hash_of(model)
        with self._lock:
            for bound, count in zip(bounds(metric.buckets), counts, strict=True):
                if count:
                    self._sums[target, encode(metric, values, bound)] += count
            self._sums[target, encode(metric, values, SUM)] += total

    def take(self) -> Sums:
        """The sums since the last call."""
        with self._lock:
            taken, self._sums = self._sums, defaultdict(float)
        return taken

    def put_back(self, taken: Sums) -> None:
        """Undoes `take` when its sums could not be stored."""
        with self._lock:
            for series, amount in taken.items():
                self._sums[series] += amount

    def commands(self, taken: Sums) -> list[Command]:
        """The Redis commands that store these sums, and this process's gauges."""
        commands: list[Command] = [
            ("HINCRBYFLOAT", target, series, repr(amount))
            for (target, series), amount in taken.items()
            if amount
        ]
        with self._lock:
            gauges = [part for pair in self._gauges.items() for part in pair]
        shared, own = keys.host_metrics(HOST), keys.process_metrics(self.process)
        if any(target == shared for target, _ in taken):
            commands += _listed(shared, HOST_TTL_S)
        if gauges:
            commands += [("HSET", own, *gauges), *_listed(own, GAUGES_TTL_S)]
        return commands

    def flush(self, client: RedisClient) -> None:
        """Stores through a redis-py client. Raises redis.RedisError; then nothing is lost."""
        taken = self.take()
        try:
            clients.pipeline(client, self.commands(taken))
        except BaseException:
            self.put_back(taken)
            raise


class Timer:
    """True once in each `interval_s`."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._next = 0.0

    def is_due(self) -> bool:
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._interval_s
        return True


def forget(client: RedisClient, model: str, version: str, last: bool) -> None:
    """Deletes the measurements of a model version; of the whole model with its `last` version."""
    target = keys.model_metrics(model)
    if last:
        client.delete(target)
        return
    fields = [name for name in client.hkeys(target) if _is_of_version(Series.read(name), version)]
    if fields:
        client.hdel(target, *fields)


def _is_of_version(series: Series, version: str) -> bool:
    labels = dict(zip(series.labels, series.values, strict=True))
    return version in (labels.get("version"), labels.get("model_version"))


def _hash_of(model: str) -> str:
    return keys.model_metrics(model) if model else keys.host_metrics(HOST)


def _listed(target: str, ttl_s: int) -> Iterable[Command]:
    """Hashes without a registration are found through their list, and expire."""
    now = int(time.time())
    yield ("EXPIRE", target, ttl_s)
    yield ("ZADD", keys.METRICS, now, target)
    yield ("ZREMRANGEBYSCORE", keys.METRICS, 0, now - HOST_TTL_S)
