"""What a gateway counts, from the request to Redis, with real routes and a real broker."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from gateway.asgi import Watched
from gateway.inference.predictor import CLIENT_GONE
from gateway.metrics.counting import Metering, RequestMeter
from gateway.metrics.storing import Measuring
from gateway.routing.routes import Routes
from marq import keys
from marq.connections import clients
from marq.metrics.catalog import QUEUE_WAIT
from marq.metrics.measurements import HOST, Measurements, Series
from marq.queue.broker import Broker
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec
from marq.settings.loading import load


class Gateway:
    """What a gateway process has for measuring, without its servers."""

    def __init__(self, url: str, directory: Path, mode: str) -> None:
        config = load(state_dir=directory, metrics_mode=mode, redis_url=url)
        self.routes, self.broker, self.meter = Routes(config), Broker(url), RequestMeter()
        self.log = config.log_dir / "ts_metrics.log"
        self.measuring = Measuring(config, self.meter, self.routes, self.broker)


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def registry(client) -> Registry:
    registry = Registry(client)
    registry.register(ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py", min_workers=1))
    return registry


@pytest.fixture
async def start(redis_url, registry, tmp_path):
    """Starts one: start("prometheus")."""
    started = []

    async def start(mode: str = "prometheus") -> Gateway:
        gateway = Gateway(redis_url, tmp_path, mode)
        await gateway.broker.start()
        await gateway.routes.refresh()
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        await gateway.broker.stop()


@pytest.fixture
def stored(client):
    """What is in Redis: {(name, *label values): value}; of histograms the sums of all buckets."""

    def read() -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for key in (keys.model_metrics("m"), keys.host_metrics(HOST)):
            for field, value in client.hgetall(key).items():
                series = Series.read(field)
                if series.part != "sum":
                    place = (series.name, *series.values)
                    found[place] = found.get(place, 0.0) + float(value)
        return found

    return read


def has_waited(client, seconds: float, rows: int) -> None:
    """What a replica stores about predictions that it took."""
    measurements = Measurements("replica")
    for _ in range(rows):
        measurements.observe(QUEUE_WAIT, ("m", "1.0", "prediction"), seconds, model="m")
    measurements.flush(client)


async def test_predictions_are_counted_by_status_and_by_how_their_url_names_the_version(start, stored):
    gateway = await start()
    for version, status, count in ((None, 200, 3), ("1.0", 200, 2), (None, 503, 1), (None, 404, 1)):
        for _ in range(count):
            gateway.meter.answered(gateway.routes.find("m", version), status, 0.25)
    await gateway.measuring.flush()
    found = stored()
    assert found["marq_requests_total", "m", "1.0", "prediction", "200"] == 5
    assert found["marq_requests_total", "m", "1.0", "prediction", "503"] == 1
    assert found["marq_request_seconds", "m", "1.0", "prediction"] == 7
    assert found["ts_inference_requests_total", "m", "default", HOST] == 5
    assert found["ts_inference_requests_total", "m", "1.0", HOST] == 2
    assert found["ts_inference_latency_microseconds", "m", "default", HOST] == pytest.approx(750_000)
    assert [found[f"Requests{n}XX", "Host", HOST] for n in (2, 4, 5)] == [5, 1, 1]


async def test_clients_that_went_away_are_no_answers(start, stored):
    gateway = await start()
    gateway.meter.answered(gateway.routes.find("m"), CLIENT_GONE, 1.0)
    await gateway.measuring.flush()
    found = stored()
    assert found["marq_requests_total", "m", "1.0", "prediction", "499"] == 1
    assert not any(name.startswith("Requests") for name, *_ in found)


async def test_queue_latency_is_that_of_the_rows_that_replicas_took(start, stored, client):
    gateway = await start()
    place = ("ts_queue_latency_microseconds", "m", "default", HOST)
    for _ in range(4):
        gateway.meter.answered(gateway.routes.find("m"), 200, 0.1)
    await gateway.measuring.flush()
    assert place not in stored()  # the replicas have not told yet
    has_waited(client, 0.02, rows=4)
    await gateway.measuring.flush()
    assert stored()[place] == pytest.approx(80_000)
    gateway.meter.answered(gateway.routes.find("m"), 200, 0.1)
    has_waited(client, 0.5, rows=1)
    await gateway.measuring.flush()
    assert stored()[place] == pytest.approx(580_000)


async def test_two_gateways_add_up(start, stored):
    for gateway in (await start(), await start()):
        gateway.meter.answered(gateway.routes.find("m"), 200, 0.1)
        await gateway.measuring.flush()
    assert stored()["ts_inference_requests_total", "m", "default", HOST] == 2


async def test_counters_of_an_unregistered_model_do_not_come_back(start, stored, registry):
    gateway = await start()
    route = gateway.routes.find("m")
    gateway.meter.answered(route, 503, 0.1)
    registry.unregister(route.spec)
    await gateway.routes.refresh()
    await gateway.measuring.flush()
    found = stored()
    assert not any("m" in labels for _, *labels in found)
    assert found["Requests5XX", "Host", HOST] == 1


async def test_what_was_counted_while_redis_was_away_is_stored_later(start, stored, client):
    gateway = await start()
    gateway.meter.answered(gateway.routes.find("m"), 200, 0.1)
    client.client_kill_filter(_type="normal")
    await asyncio.sleep(0)
    for _ in range(1000):
        try:
            await gateway.measuring.flush()
        except Exception:  # whatever a lost connection raises
            await asyncio.sleep(0.05)
        else:
            break
    assert stored()["ts_inference_requests_total", "m", "default", HOST] == 1


async def test_in_log_mode_lines_go_to_the_log_and_nothing_of_torchserve_to_redis(start, stored):
    gateway = await start("log")
    for _ in range(3):
        gateway.meter.answered(gateway.routes.find("m"), 200, 0.001)
    began = int(time.time())
    await gateway.measuring.flush()
    lines = gateway.log.read_text().splitlines()
    assert any(
        f" - Requests2XX.Count:3.0|#Level:Host|#hostname:{HOST},timestamp:{at}" in line
        for line in lines
        for at in range(began, int(time.time()) + 1)
    )
    assert any(
        " - ts_inference_requests_total.Count:3.0|#model_name:m,model_version:default|#" in x for x in lines
    )
    assert all(name.startswith("marq_") for name, *_ in stored())


async def test_in_legacy_mode_only_the_counters_of_requests_are_shown(start, stored):
    gateway = await start("legacy")
    gateway.meter.answered(gateway.routes.find("m"), 200, 0.001)
    await gateway.measuring.flush()
    shown = {name for name, *_ in stored() if not name.startswith("marq_")}
    assert shown == {"ts_inference_requests_total", "ts_inference_latency_microseconds"}
    assert "Requests2XX" in gateway.log.read_text()


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("POST", "/predictions/m", ("m", "1.0", "prediction")),
        ("POST", "/predictions/m/1.0/more", ("m", "1.0", "prediction")),
        ("POST", "/predictions/nobody", ("", "", "prediction")),
        ("POST", "/explanations/m", ("m", "1.0", "prediction")),
        ("POST", "/jobs/m", ("m", "1.0", "job")),
        ("GET", "/jobs/m:1", ("", "", "job_status")),
        ("PUT", "/models/m", ("", "", "management")),
        ("GET", "/ping", ("", "", "other")),
        ("OPTIONS", "/predictions/m", ("", "", "other")),
    ],
)
async def test_requests_of_other_routes_are_counted_by_kind_and_model(start, stored, method, path, labels):
    gateway = await start()

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(Watched(app, Metering(gateway.meter, gateway.routes).watch))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        await http.request(method, path)
    await gateway.measuring.flush()
    assert stored()[("marq_requests_total", *labels, "418")] == 1
    assert stored()["Requests4XX", "Host", HOST] == 1


async def test_an_application_that_fails_without_an_answer_is_counted_too(start, stored):
    gateway = await start()

    async def app(scope, receive, send):
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        await Watched(app, Metering(gateway.meter, gateway.routes).watch)(
            {"type": "http", "method": "GET", "path": "/ping"}, None, None
        )
    await gateway.measuring.flush()
    assert stored()["marq_requests_total", "", "", "other", str(CLIENT_GONE)] == 1
