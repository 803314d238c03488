"""The measurements of a replica: gathered in memory, sent at most once a second.

What handlers emit through `context.metrics` is printed as `[METRICS]` lines, which the pool reads; printing
for each batch would cost a fast handler more than its work. marq's own numbers go to Redis, as commands that
leave with the replica's next write.
"""

import sys
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, TextIO

from marq.connections.urls import Command
from marq.metrics import catalog
from marq.metrics.measurements import FLUSH_EVERY_S, Labels, Measurements
from marq.queue.entries import Request
from marq.registry.spec import ModelSpec
from ts.context import Context
from ts.metrics import caching_metric
from ts.metrics.caching_metric import CachingMetric
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.metrics.metric_type_enum import MetricTypes
from workers.handler.call import Handle
from workers.handler.rows import Row
from workers.launch import PoolSpec

MOST_OBSERVATIONS = 100_000  # of histograms, kept until they are printed: the newest
PREDICTION, JOB = "prediction", "job"


def handler_cache(pool: PoolSpec) -> MetricsCacheYamlImpl:
    """`context.metrics` with the metrics that the server's metrics.yaml lists."""
    cache = MetricsCacheYamlImpl()
    if pool.metrics_config:
        from marq.metrics import config

        cache.config_file_path = pool.metrics_config
        for metric in config.read(pool.metrics_config).model.values():
            kind = MetricTypes(metric.kind)
            cache.add_metric_to_cache(metric.name, metric.unit, list(metric.labels), kind)
    return cache


class Tally:
    """A histogram that is filled on the hot path: plain numbers, merged into measurements once a second."""

    __slots__ = ("_metric", "counts", "total")

    def __init__(self, metric: catalog.Metric) -> None:
        self._metric = metric
        self.counts = [0] * (len(metric.buckets) + 1)
        self.total = 0.0

    def add(self, value: float, count: int = 1) -> None:
        self.counts[bisect_left(self._metric.buckets, value)] += count
        self.total += value * count

    def move_to(self, measurements: Measurements, labels: Labels) -> None:
        """Empties it into the measurements of the model that the first label names."""
        if any(self.counts):
            measurements.merge(self._metric, labels, self.counts, self.total, model=labels[0])
            self.counts, self.total = [0] * len(self.counts), 0.0


class Collector:
    """The measurements of one replica. `batch`, `due` and `flush` are for one thread only."""

    def __init__(self, model: ModelSpec, output: TextIO | None = None) -> None:
        self._labels = model.name, model.version
        self._output = output or sys.stdout
        self._lock = threading.Lock()
        # (metric, dimensions) -> (value, request id)
        self._gathered: dict[tuple[CachingMetric, str], tuple[float | str, str]] = {}
        self._observed: deque[tuple[CachingMetric, str, float | str, str]] = deque(maxlen=MOST_OBSERVATIONS)
        self._next = 0.0
        self._handler_s: float | None = None
        self._thread_ms = self._queue_ms = 0
        self._ids: list[bytes] = []  # of the last batch's requests
        self._batches = Tally(catalog.BATCH_SIZE)
        self._batch_waits, self._handler = Tally(catalog.BATCH_WAIT), Tally(catalog.HANDLER)
        # For each row: a text that is empty for a prediction, and the wait
        self._waits_ms: list[tuple[bytes, int]] = []
        self._measurements = Measurements()

    def install(self) -> None:
        """Gathers the metrics that handlers of this process emit from now on."""
        caching_metric.gather = self._gather  # type: ignore[assignment]

    def timed(self, handle: Handle, is_coroutine: bool = False) -> Handle:
        """The handler, with each of its calls measured."""

        def call(data: list[Row], context: Context) -> object:
            began = time.perf_counter()
            try:
                return handle(data, context)
            finally:
                self.predicted(time.perf_counter() - began)

        async def await_call(data: list[Row], context: Context) -> object:
            began = time.perf_counter()
            try:
                return await handle(data, context)
            finally:
                self.predicted(time.perf_counter() - began)

        return await_call if is_coroutine else call

    def predicted(self, seconds: float) -> None:
        """Notes how long the handler took for a batch."""
        self._handler_s = seconds
        self._handler.add(seconds)

    def batch(self, rows: Sequence[Request], started_ms: int, waited_s: float, now: float) -> None:
        """Notes a batch that has run: its start (unix ms) and its batching delay."""
        self._batches.add(len(rows))
        self._batch_waits.add(waited_s)
        self._waits_ms += [(row.job, started_ms - row.queued_ms) for row in rows]
        self._queue_ms = max(0, started_ms - rows[-1].queued_ms)
        self._ids = [row.id for row in rows]
        self._thread_ms = max(0, int(now * 1000 - started_ms - (self._handler_s or 0.0) * 1000))

    def due(self, now: float) -> Sequence[Command]:
        """Once a second: prints the metrics of handlers, and returns the commands that store marq's own."""
        return () if now < self._next else self.flush(now)

    def flush(self, now: float | None = None) -> list[Command]:
        """Does the same at once."""
        now = now or time.time()
        self._next = now + FLUSH_EVERY_S
        lines = self._own_lines(now) + self._gathered_lines(now)
        if lines:
            self._output.write("\n".join(lines) + "\n")
            self._output.flush()
        for tally in (self._batches, self._batch_waits, self._handler):
            tally.move_to(self._measurements, self._labels)
        self._move_waits()
        return self._measurements.commands(self._measurements.take())

    def _move_waits(self) -> None:
        """Sorts the waits into histograms; many are alike, so that this is cheaper than row by row."""
        waits, self._waits_ms = self._waits_ms, []
        tallies = {kind: Tally(catalog.QUEUE_WAIT) for kind in (PREDICTION, JOB)}
        for (job, wait_ms), count in Counter(waits).items():
            tallies[JOB if job else PREDICTION].add(max(0, wait_ms) / 1000, count)
        for kind, tally in tallies.items():
            tally.move_to(self._measurements, (*self._labels, kind))

    def _gather(self, metric: CachingMetric, value: Any, dimensions: str, request_id: str) -> None:
        """Called by `ts.metrics`: counters add up, of gauges the last value counts, all others are kept."""
        # Converted here: a value that cannot be converted must fail the handler, not the replica.
        if metric.metric_type is not MetricTypes.COUNTER:
            value = str(value)
        elif type(value) is not int:
            value = float(value)
        with self._lock:
            if metric.metric_type is MetricTypes.HISTOGRAM:
                self._observed.append((metric, dimensions, value, request_id))
                return
            if metric.metric_type is MetricTypes.COUNTER:
                before = self._gathered.get((metric, dimensions))
                value = value if before is None else before[0] + value
            self._gathered[metric, dimensions] = value, request_id

    def _gathered_lines(self, now: float) -> list[str]:
        with self._lock:
            gathered, self._gathered = self._gathered, {}
            observed, self._observed = self._observed, deque(maxlen=MOST_OBSERVATIONS)
        observed += ((*series, *value) for series, value in gathered.items())
        return [metric.line(value, dimensions, ids, now) for metric, dimensions, value, ids in observed]

    def _own_lines(self, now: float) -> list[str]:
        """TorchServe's gauges of the last batch, as its worker prints them."""
        if self._handler_s is None:
            return []
        milliseconds, self._handler_s = round(1000 * self._handler_s, 2), None
        model = f"ModelName:{self._labels[0]},Level:Model"
        return [
            f"{_line('PredictionTime', milliseconds, model, now)},{b','.join(self._ids).decode()}",
            _line("QueueTime", self._queue_ms, "Level:Host", now),
            _line("WorkerThreadTime", self._thread_ms, "Level:Host", now),
        ]


def _line(name: str, value: float, dimensions: str, now: float) -> str:
    tail = f"|#type:GAUGE|#hostname:{caching_metric.HOSTNAME},{int(now)}"
    return f"[METRICS]{name}.Milliseconds:{value}|#{dimensions}{tail}"
