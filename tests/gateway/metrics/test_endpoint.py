import time
from dataclasses import replace

import httpx
import pytest
from exposition import samples

from gateway.metrics.endpoint import MetricsEndpoint, WithMetrics
from marq import keys
from marq.connections import clients
from marq.metrics import catalog
from marq.metrics.catalog import COUNTER, GAUGE, HISTOGRAM, Metric
from marq.metrics.measurements import Measurements
from marq.registry.models import Registry
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.spec import ModelSpec

FRAMES = Metric("Frames", COUNTER, ("ModelName", "Hostname"), unit="count")
TEMPERATURE = Metric("Temperature", GAUGE, ("Level",), unit="C")
SIZES = Metric("Sizes", HISTOGRAM, ("ModelName",), unit="B")


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def spec(client) -> ModelSpec:
    spec = ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py")
    Registry(client).register(spec)
    return spec


@pytest.fixture
def get(redis_url):
    """Requests a path of the metrics address."""

    async def get(path: str = "/metrics", method: str = "GET", url: str = redis_url) -> httpx.Response:
        transport = httpx.ASGITransport(MetricsEndpoint(url))
        async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as http:
            return await http.request(method, path)

    return get


async def test_an_empty_server_shows_an_empty_page(client, get):
    answer = await get()
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_names_are_shown_as_they_are_configured_with_help_and_type(client, spec, get):
    measurements = Measurements()
    measurements.increment(FRAMES, ("m", "host"), 3, model="m")
    measurements.flush(client)
    text = (await get()).text
    assert (
        "# HELP Frames Torchserve prometheus counter metric with unit: count\n# TYPE Frames counter\n" in text
    )
    assert 'Frames{ModelName="m",Hostname="host",} 3.0\n' in text
    assert "_created" not in text


async def test_histograms_of_several_processes_become_one_with_all_buckets(client, spec, get):
    for process, value in (("a", 0.02), ("b", 3.0)):
        measurements = Measurements(process)
        measurements.observe(SIZES, ("m",), value, model="m")
        measurements.flush(client)
    found = samples((await get()).text)
    assert found["Sizes_bucket", (("ModelName", "m"), ("le", "0.01"))] == 0
    assert found["Sizes_bucket", (("ModelName", "m"), ("le", "0.025"))] == 1
    assert found["Sizes_bucket", (("ModelName", "m"), ("le", "5.0"))] == 2
    assert found["Sizes_bucket", (("ModelName", "m"), ("le", "+Inf"))] == 2
    assert found["Sizes_count", (("ModelName", "m"),)] == 2
    assert found["Sizes_sum", (("ModelName", "m"),)] == pytest.approx(3.02)


async def test_of_two_processes_that_set_a_gauge_the_last_one_counts(client, get):
    for process, value in (("a", 20.0), ("b", 21.5)):
        measurements = Measurements(process)
        measurements.set(TEMPERATURE, ("Host",), value)
        measurements.flush(client)
        time.sleep(0.002)
    assert samples((await get()).text)["Temperature", (("Level", "Host"),)] == 21.5


async def test_strange_names_and_values_of_handlers_do_not_break_the_page(client, spec, get):
    measurements = Measurements()
    odd = Metric("2 frames per s", COUNTER, ("a label", "b"), unit="count")
    measurements.increment(odd, ('quote " backslash \\', "two\nlines"), model="m")
    measurements.increment(Metric("Twice", COUNTER, ()), (), model="m")
    measurements.set(Metric("Twice", GAUGE, ()), (), 5)
    measurements.flush(client)
    found = samples((await get()).text)
    labels = (("a_label", 'quote " backslash \\'), ("b", "two\nlines"))
    assert found["_2_frames_per_s", labels] == 1
    assert sum(name == "Twice" for name, _ in found) == 1


async def test_queues_replicas_and_dead_letters_are_shown_as_they_are_now(client, spec, get):
    # Given one request that a replica has taken, two that wait, one of them for half a second, one put back
    lane, front = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)
    client.xadd(lane, {"body": b"taken"})
    client.xreadgroup(keys.GROUP, "replica", {lane: ">"})
    now_ms = int(time.time() * 1000)
    client.xadd(keys.lane("m", "1.0", keys.HIGH), {"body": b"x" * 100_000}, id=f"{now_ms - 500}-0")
    client.xadd(front, {"body": b"put back"})
    client.xdel(front, client.xadd(front, {"body": b"put back and done"}))
    client.xadd(keys.dead_letters("m"), {"reason": b"x"})
    states = enumerate(("ready", "ready", "loading"))
    replicas = tuple(ReplicaReport(slot, 1, "cpu", state, started=0.0) for slot, state in states)
    report = PoolReport("host", 3, replicas=replicas)
    Registry(client).report(spec, "pool", report)
    client.hset(keys.pools("m", "1.0"), "lost", replace(report, reported=time.time() - 60).to_json())
    # Then
    found = samples((await get()).text)

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted({"model": "m", **labels}.items()))]

    one = {"version": "1.0"}
    depths = {
        lane: value("marq_queue_depth", lane=lane, **one) for lane in ("front", "high", "normal", "low")
    }
    assert depths == {"front": 1, "high": 1, "normal": 0, "low": 0}
    assert 0.5 <= value("marq_queue_oldest_age_seconds", lane="high", **one) < 10
    assert value("marq_queue_oldest_age_seconds", lane="normal", **one) == 0
    states = {state: value("marq_replicas", state=state, **one) for state in ("ready", "loading", "draining")}
    assert states == {"ready": 2, "loading": 1, "draining": 0}
    assert value("marq_redeliveries_total", **one) == 2
    assert (value("marq_dead_letters"), value("marq_dead_letters_total")) == (1, 1)
    assert value("marq_replica_restarts_total", **one) == 0


async def test_versions_of_a_model_share_its_dead_letters(client, spec, get):
    Registry(client).register(ModelSpec("m", "2.0", "m.mar", "/m.mar", "h.py"))
    client.xadd(keys.dead_letters("m"), {"reason": b"x"})
    assert samples((await get()).text)["marq_dead_letters", (("model", "m"),)] == 1


async def test_a_scrape_of_many_models_takes_as_many_round_trips_as_one_of_one(
    client, spec, get, round_trips
):
    async def scrape() -> tuple[int, int]:
        round_trips.clear()
        shown = sum(name == "marq_dead_letters" for name, _ in samples((await get()).text))
        return shown, len(round_trips)

    await scrape()  # the first one loads the scripts
    assert (one := await scrape())[0] == 1
    for number in range(199):
        Registry(client).register(ModelSpec(f"m{number}", "1.0", "m.mar", "/m.mar", "h.py"))
    assert await scrape() == (200, one[1])


async def test_metrics_of_models_that_are_not_registered_are_not_shown(client, get):
    measurements = Measurements()
    measurements.increment(FRAMES, ("gone", "host"), model="gone")
    measurements.flush(client)
    assert (await get()).text == ""


async def test_a_filter_picks_samples_by_their_exact_names(client, spec, get):
    measurements = Measurements()
    measurements.observe(SIZES, ("m",), 1.0, model="m")
    measurements.flush(client)
    answer = await get("/metrics?name[]=Sizes_count&name[]=marq_dead_letters&name[]=Sizes")
    assert {name for name, _ in samples(answer.text)} == {"Sizes_count", "marq_dead_letters"}
    assert "Sizes_sum" not in answer.text


@pytest.mark.parametrize(("path", "status"), [("/metrics/deeper/still", 200), ("/metricsx", 404), ("/", 404)])
async def test_every_path_below_metrics_answers_and_no_other(client, get, path, status):
    assert (await get(path)).status_code == status


async def test_any_method_answers(client, get):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert (await get(method=method)).status_code == 200


async def test_without_redis_a_scrape_fails(get):
    answer = await get(url="redis://127.0.0.1:1/0")
    assert (answer.status_code, answer.json()["type"]) == (503, "ServiceUnavailableException")


async def test_an_address_may_serve_metrics_beside_another_api(client, redis_url):
    async def other(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(WithMetrics(other, MetricsEndpoint(redis_url)))
    async with httpx.AsyncClient(transport=transport, base_url="http://shared") as http:
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/models")).status_code == 204


def test_all_of_marqs_own_names_are_reserved():
    assert all(name.startswith(catalog.RESERVED) for name in catalog.OWN)
