import time

import pytest
import redis

from marq import keys
from marq.connections import clients
from marq.metrics import catalog
from marq.metrics.catalog import COUNTER, GAUGE, HISTOGRAM, Metric
from marq.metrics.measurements import HOST, SUM, Measurements, Series, encode, forget

CALLS = Metric("Calls", COUNTER, ("model", "version"), unit="Count")
DEPTH = Metric("Depth", GAUGE, ("queue",))
SECONDS = Metric("seconds", HISTOGRAM, ("model",), buckets=(0.1, 1.0))
M1 = ("m", "1.0")


def stored(client, key: str) -> dict[tuple[str, tuple[str, ...], str], float]:
    """What a hash of counters and histograms holds: (name, label values, part) -> value."""
    found = {Series.read(name): float(value) for name, value in client.hgetall(key).items()}
    return {(series.name, series.values, series.part): value for series, value in found.items()}


def test_counters_of_several_processes_add_up_and_outlive_them(client):
    for process in ("a", "b"):
        measurements = Measurements(process)
        for _ in range(2):
            measurements.increment(CALLS, M1, 3, model="m")
            measurements.flush(client)
    assert stored(client, keys.model_metrics("m")) == {("Calls", M1, ""): 12}
    assert client.ttl(keys.model_metrics("m")) == -1


def test_a_histogram_is_stored_as_its_buckets_and_sum(client):
    measurements = Measurements()
    for value in (0.05, 0.1, 0.5, 7.0):
        measurements.observe(SECONDS, ("m",), value, model="m")
    measurements.flush(client)
    assert stored(client, keys.model_metrics("m")) == {
        ("seconds", ("m",), "0.1"): 2,
        ("seconds", ("m",), "1.0"): 1,
        ("seconds", ("m",), "+Inf"): 1,
        ("seconds", ("m",), SUM): pytest.approx(7.65),
    }


def test_what_belongs_to_no_model_is_kept_by_host_for_a_day(client):
    measurements = Measurements()
    measurements.increment(CALLS, M1)
    measurements.flush(client)
    assert 86_000 < client.ttl(keys.host_metrics(HOST)) <= 86_400
    assert client.zrange(keys.METRICS, 0, -1) == [keys.host_metrics(HOST).encode()]


def test_gauges_end_with_their_process_and_hold_while_it_lives(client):
    measurements = Measurements("pool")
    measurements.set(DEPTH, ("jobs",), 4)
    measurements.flush(client)
    client.pexpire(keys.process_metrics("pool"), 50)
    measurements.flush(client)  # nothing new, but alive
    [value] = client.hgetall(keys.process_metrics("pool")).values()
    assert value.startswith(b"4.0 ")
    assert 10 < client.ttl(keys.process_metrics("pool")) <= 15


def test_nothing_is_lost_while_redis_is_away(client):
    measurements = Measurements()
    measurements.increment(CALLS, M1, 5, model="m")
    with clients.client("redis://127.0.0.1:1/0") as nobody, pytest.raises(redis.RedisError):
        measurements.flush(nobody)
    measurements.increment(CALLS, M1, 1, model="m")
    measurements.flush(client)
    assert stored(client, keys.model_metrics("m")) == {("Calls", M1, ""): 6}


def test_one_field_of_another_type_does_not_keep_the_others_from_being_stored(client):
    client.hset(keys.model_metrics("m"), encode(CALLS, M1), "not a number")
    measurements = Measurements()
    measurements.increment(CALLS, M1, model="m")
    measurements.increment(CALLS, ("m", "2.0"), model="m")
    measurements.flush(client)
    assert client.hget(keys.model_metrics("m"), encode(CALLS, ("m", "2.0"))) == b"1"


def test_values_must_match_the_labels():
    with pytest.raises(ValueError, match="Calls has the labels"):
        Measurements().increment(CALLS, ("m",))


def test_a_version_is_forgotten_and_the_others_stay(client):
    measurements = Measurements()
    for version in ("1.0", "2.0"):
        measurements.increment(CALLS, ("m", version), model="m")
    measurements.observe(SECONDS, ("m",), 1.0, model="m")
    measurements.flush(client)
    forget(client, "m", "1.0", last=False)
    names = {(name, values) for name, values, _ in stored(client, keys.model_metrics("m"))}
    assert names == {("Calls", ("m", "2.0")), ("seconds", ("m",))}
    forget(client, "m", "2.0", last=True)
    assert client.exists(keys.model_metrics("m")) == 0


def test_hosts_and_processes_that_are_long_gone_are_not_listed_any_more(client):
    client.zadd(keys.METRICS, {"marq:metrics:process:old": time.time() - 90_000})
    measurements = Measurements("new")
    measurements.set(DEPTH, ("jobs",), 1)
    measurements.flush(client)
    assert client.zrange(keys.METRICS, 0, -1) == [keys.process_metrics("new").encode()]


def test_names_of_own_metrics_follow_prometheus():
    for name, metric in catalog.OWN.items():
        assert name.startswith(catalog.RESERVED)
        assert name.endswith("_total") == (metric.kind == COUNTER), name
        assert metric.help
        assert list(metric.buckets) == sorted(metric.buckets)
