import asyncio
import io
import logging
import re
import threading
import time

import pytest
from clock import FakeClock

from marq.metrics.measurements import Series
from marq.queue.entries import Request, decode
from ts.metrics import caching_metric
from ts.metrics.metric_cache_errors import MetricsCacheKeyError
from ts.metrics.metric_type_enum import MetricTypes
from workers.handler.measurements import Collector, handler_cache


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def collector(register, output):
    collector = Collector(register(), output)
    collector.install()
    yield collector
    caching_metric.gather = None


@pytest.fixture
def metrics(make_pool, register, caplog):
    """`context.metrics` of a replica whose root logger is set up as in a replica."""
    caplog.set_level(logging.INFO)
    cache = handler_cache(make_pool(register()))
    cache.model_name, cache.request_ids = "m", {0: "a", 1: "b"}
    return cache


@pytest.fixture
def printed(output):
    """The lines that were printed since the last call, without the clock."""

    def read() -> list[str]:
        text = output.getvalue()
        output.seek(0)
        output.truncate()
        return [re.sub(r"\|#hostname:[^,]+,\d+", "", line) for line in text.splitlines()]

    return read


def row(entry: bytes, **fields: bytes) -> Request:
    given = {"body": b"x", **fields}
    return decode("lane", entry, [part for name, value in given.items() for part in (name.encode(), value)])


def told(commands) -> dict[tuple[str, ...], float]:
    """What commands add: {(name, *labels, part): amount}."""
    found = {}
    for name, _, field, amount in commands:
        assert name == "HINCRBYFLOAT"
        series = Series.read(field.encode())
        found[series.name, *series.values, series.part] = float(amount)
    return found


def test_what_a_handler_emits_is_gathered_and_printed_once(collector, metrics, printed):
    for size in (3, 4):
        metrics.add_counter("Rows", size)
        metrics.add_time("Took", size)
        metrics.add_metric("Size", size, "B", 1, metric_type=MetricTypes.HISTOGRAM)
    assert printed() == []
    collector.flush()
    assert sorted(printed()) == [
        "[METRICS]Rows.Count:7|#ModelName:m,Level:Model|#type:COUNTER,a,b",
        "[METRICS]Size.Bytes:3|#ModelName:m,Level:Model|#type:HISTOGRAM,b",
        "[METRICS]Size.Bytes:4|#ModelName:m,Level:Model|#type:HISTOGRAM,b",
        "[METRICS]Took.Milliseconds:4|#ModelName:m,Level:Model|#type:GAUGE,a,b",
    ]
    collector.flush()
    assert printed() == []


def test_a_value_that_cannot_be_printed_fails_who_emits_it_and_not_the_replica(collector, metrics, printed):
    class Unprintable:
        def __str__(self):
            raise RuntimeError("no text")

    with pytest.raises(RuntimeError, match="no text"):
        metrics.add_time("Took", Unprintable())
    metrics.add_counter("Rows", 1)
    collector.flush()
    assert [line.partition("|")[0] for line in printed()] == ["[METRICS]Rows.Count:1"]


def test_threads_of_a_handler_may_emit_while_the_replica_tells(collector, metrics, output):
    def emit():
        for _ in range(500):
            metrics.add_metric("Size", 1, "B", metric_type=MetricTypes.HISTOGRAM)
            metrics.add_counter("Rows", 1)

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        collector.flush()
    collector.flush()
    lines = output.getvalue().splitlines()
    assert sum("Size.Bytes:1|" in line for line in lines) == 2000
    assert sum(float(line.split(":")[1].split("|")[0]) for line in lines if "Rows" in line) == 2000


def test_a_handler_that_raises_the_log_level_silences_its_metrics(collector, metrics, printed, caplog):
    caplog.set_level(logging.ERROR)
    metrics.add_counter("Rows", 1)
    collector.flush()
    assert printed() == []


def test_nothing_is_due_before_a_second_has_passed(collector, metrics, printed):
    now = time.time()
    collector.due(now)
    metrics.add_counter("Rows", 1)
    assert collector.due(now + 0.9) == ()
    assert printed() == []
    collector.due(now + 1.1)
    assert len(printed()) == 1


def test_batches_are_told_as_commands_for_redis(collector, printed):
    collector.predicted(0.02)
    rows = [
        row(b"1000-0"),
        row(b"1400-0"),
        row(b"1500-0", job=b"1"),
        row(b"2500-0"),
    ]  # the last: a clock ahead
    collector.batch(rows, 2000, 0.003, 2.025)
    found = told(collector.flush())
    assert found["marq_batch_size", "m", "1.0", "4.0"] == 1
    assert found["marq_batch_size", "m", "1.0", "sum"] == 4
    assert found["marq_batch_wait_seconds", "m", "1.0", "sum"] == pytest.approx(0.003)
    assert found["marq_handler_seconds", "m", "1.0", "0.025"] == 1
    assert found["marq_queue_wait_seconds", "m", "1.0", "prediction", "sum"] == pytest.approx(1.6)
    assert found["marq_queue_wait_seconds", "m", "1.0", "prediction", "0.00025"] == 1
    assert found["marq_queue_wait_seconds", "m", "1.0", "job", "0.5"] == 1
    assert collector.flush() == []


def test_calls_of_a_handler_are_measured_also_those_that_fail_and_coroutines(collector, printed, monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr("time.perf_counter", clock)

    def sleep(data, context):
        clock.sleep(0.03)
        raise ValueError(data)

    async def nap(data, context):
        await asyncio.sleep(0)
        clock.sleep(0.3)
        return data

    with pytest.raises(ValueError, match="x"):
        collector.timed(sleep)("x", None)
    assert asyncio.run(collector.timed(nap, is_coroutine=True)("y", None)) == "y"
    found = told(collector.flush())
    counts = [found["marq_handler_seconds", "m", "1.0", bound] for bound in ("0.05", "0.5")]
    assert counts == [1, 1]


def test_torchserves_gauges_tell_of_the_last_batch(collector, printed):
    for handler_s in (0.5, 0.02):
        collector.predicted(handler_s)
        collector.batch([row(b"1900-0", id=b"a"), row(b"1950-0", id=b"b")], 2000, 0.0, 2.025)
    collector.flush()
    assert printed() == [
        "[METRICS]PredictionTime.Milliseconds:20.0|#ModelName:m,Level:Model|#type:GAUGE,a,b",
        "[METRICS]QueueTime.Milliseconds:50|#Level:Host|#type:GAUGE",
        "[METRICS]WorkerThreadTime.Milliseconds:5|#Level:Host|#type:GAUGE",
    ]


def test_the_hot_path_costs_microseconds(collector):
    """A rough guard: 1 µs is usual for a batch of one row, of which the rest of a request takes 40."""
    rows, rounds = [row(b"1000-0")], 2000
    best = 1.0
    for _ in range(5):
        began = time.process_time()
        for _ in range(rounds):
            collector.predicted(0.001)
            collector.batch(rows, 2000, 0.0, 2.0)
            collector.due(0.0)
        best = min(best, (time.process_time() - began) / rounds)
    assert best < 20e-6


def test_a_handler_finds_the_metrics_of_the_servers_file(make_pool, register, tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_text("model_metrics: {counter: [{name: Frames, unit: count, dimensions: [Camera]}]}")
    cache = handler_cache(make_pool(register(), metrics_config=str(path)))
    frames = cache.get_metric("Frames", MetricTypes.COUNTER)
    assert (frames.dimension_names, cache.config_file_path) == (["Camera"], str(path))
    with pytest.raises(MetricsCacheKeyError):
        cache.get_metric("Frames", MetricTypes.GAUGE)
    assert handler_cache(make_pool(register())).get_metric("HandlerTime", MetricTypes.GAUGE)
