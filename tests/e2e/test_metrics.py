"""`/metrics` of a server with two gateways and two replicas, as Prometheus would read it."""

import re
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from exposition import samples, total, value
from ports import free_port
from support import RunningServer, wait_for

HOST = socket.gethostname()
METERED = """
import os
import signal
import time

from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes


class Metered:
    def initialize(self, context):  # noqa: ARG002
        metrics = context.metrics
        self.pixels = metrics.add_metric_to_cache("Pixels", "count", ["Camera"], MetricTypes.HISTOGRAM)

    def handle(self, data, context):  # noqa: ARG002
        metrics = context.metrics
        for index, row in enumerate(data):
            if row["body"] == b"die":
                os.kill(os.getpid(), signal.SIGKILL)
            if row["body"] == b"fail":
                raise ValueError("no")
            color = "blue" if row["body"] == b"blue" else "red"
            metrics.add_counter("Rows", 1, index, [Dimension("Color", color)])
            self.pixels.add_or_update(0.3, ["left"], context.get_request_id(index))
        metrics.add_time("TookTime", 12.5)
        print(f"[METRICS]ByHand.Count:{len(data)}|#|#type:COUNTER|#hostname:by-hand,{int(time.time())}")
        print("[METRICS]this is none", flush=True)
        time.sleep(0.01)
        return ["done"] * len(data)
"""
CONFIG = {
    "gateway_workers": 2, "default_workers_per_model": 2, "metric_time_interval": 1,
    "model_metrics_auto_detect": True,
}  # fmt: skip
CLIENTS, EACH = 8, 10


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_archive) -> Path:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "metered", METERED, {"minWorkers": 2, "maxWorkers": 2, "maxAttempts": 1})
    return store


@pytest.fixture(scope="module")
def server(store, start_server) -> RunningServer:
    server = start_server(store, metrics_mode="prometheus", **CONFIG)
    server.wait_until_ready("metered", 2)
    use(server)
    return server


def use(server: RunningServer, body: bytes = b"x") -> None:
    """CLIENTS x EACH predictions, each client on connections of its own, so that both gateways get some."""

    def client(_: int) -> None:
        for _ in range(EACH):
            assert server.predict("metered", body).status_code == 200

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(client, range(CLIENTS)))


def scrape(server: RunningServer, query: str = "") -> str:
    answer = httpx.get(f"{server.metrics}/metrics{query}", timeout=60)
    assert answer.status_code == 200
    return answer.text


def wait_for_value(server: RunningServer, expected: float, name: str, **labels: str) -> str:
    """The page once a sum of samples is as expected: what processes count comes within two seconds."""

    def page() -> str | None:
        text = scrape(server)
        return text if total(text, name, **labels) == expected else None

    return str(wait_for(page, what=f"{name} {labels} to be {expected}"))


def test_what_a_handler_emits_is_right_across_replicas(server):
    count = CLIENTS * EACH
    wait_for_value(server, count, "ByHand")
    text = wait_for_value(server, count, "Rows")
    model = {"ModelName": "metered", "Level": "Model", "Hostname": HOST}
    assert value(text, "Rows", Color="red", **model) == count
    assert value(text, "ByHand", Hostname="by-hand") == count
    assert value(text, "TookTime", **model) == 12.5
    assert value(text, "Pixels_count", Camera="left", Hostname=HOST) == count
    assert value(text, "Pixels_sum", Camera="left", Hostname=HOST) == pytest.approx(0.3 * count)
    assert value(text, "Pixels_bucket", Camera="left", Hostname=HOST, le="0.25") == 0
    assert 10 < value(text, "PredictionTime", **model) < 60_000
    assert "# TYPE Rows counter\n" in text


def test_a_line_that_is_no_metric_is_in_the_model_log(server):
    wait_for(lambda: "[METRICS]this is none" in server.model_log)
    assert "[METRICS]ByHand" not in server.model_log


def test_requests_are_counted_right_across_gateways(server):
    count = CLIENTS * EACH
    text = wait_for_value(server, count, "marq_requests_total", kind="prediction", status="200")
    labels = {"model_name": "metered", "model_version": "default", "hostname": HOST}
    assert value(text, "ts_inference_requests_total", **labels) == count
    assert value(text, "Requests2XX", Level="Host", Hostname=HOST) >= count
    assert value(text, "ts_inference_latency_microseconds", **labels) > count * 10_000
    seconds = value(text, "marq_request_seconds_sum", model="metered", version="1.0", kind="prediction")
    assert seconds * 1e6 == pytest.approx(
        value(text, "ts_inference_latency_microseconds", **labels), rel=0.01
    )


def test_batches_are_measured(server):
    count = CLIENTS * EACH
    text = wait_for_value(server, count, "marq_batch_size_sum")
    version = {"model": "metered", "version": "1.0"}
    batches = value(text, "marq_batch_size_count", **version)
    assert batches <= count
    assert value(text, "marq_handler_seconds_count", **version) == batches
    assert value(text, "marq_handler_seconds_sum", **version) > 0.01 * batches
    assert value(text, "marq_queue_wait_seconds_count", kind="prediction", **version) == count

    def has_the_same_in_microseconds() -> bool:
        text = scrape(server)
        waited = value(text, "marq_queue_wait_seconds_sum", kind="prediction", **version)
        return 0.1e6 * waited < total(text, "ts_queue_latency_microseconds") < 10e6 * waited

    wait_for(has_the_same_in_microseconds, what="the queue latency")


def test_the_host_and_its_workers_are_measured(server):
    text = wait_for_value(server, 2, "marq_replicas", state="ready")
    found = {name for name, _ in samples(text)}
    assert {"CPUUtilization", "MemoryUsed", "DiskUsage", "QueueTime", "WorkerThreadTime"} <= found
    load_times = [number for (name, _), number in samples(text).items() if name == "WorkerLoadTime"]
    assert len(load_times) == 2
    assert all(100 < number < 60_000 for number in load_times)
    assert total(text, "marq_redis_round_trip_seconds_count", process="gateway") >= 2


def test_jobs_failures_and_management_have_kinds_and_statuses_of_their_own(server):
    httpx.post(f"{server.inference}/predictions/metered/1.0", content=b"fail", timeout=60)
    httpx.post(f"{server.inference}/predictions/nobody")
    server.result(server.submit("metered", b"x"))
    wait_for_value(server, 1, "marq_requests_total", kind="job", status="202", model="metered")
    wait_for_value(server, 1, "marq_requests_total", kind="prediction", status="404", model="")
    text = wait_for_value(server, 1, "marq_requests_total", kind="prediction", status="503", model="metered")
    assert total(text, "marq_requests_total", kind="management", status="200") >= 1
    assert total(text, "ts_inference_requests_total", model_version="1.0") == 1
    wait_for_value(server, 1, "marq_queue_wait_seconds_count", kind="job")


def test_waiting_requests_restarts_and_dead_letters_are_shown(server):
    server.predict("metered", b"die")
    text = wait_for_value(server, 1, "marq_replica_restarts_total", model="metered")
    assert total(text, "marq_dead_letters", model="metered") == 1
    assert total(text, "marq_dead_letters_total", model="metered") == 1
    server.scale("metered", 0)
    jobs = [server.submit("metered", b"x") for _ in range(3)]
    text = wait_for_value(server, 3, "marq_queue_depth", model="metered")
    assert value(text, "marq_queue_depth", model="metered", version="1.0", lane="normal") == 3
    assert wait_for(lambda: total(scrape(server), "marq_queue_oldest_age_seconds") > 0.5, what="its age")
    server.scale("metered", 2)
    assert all(server.result(job).status_code == 200 for job in jobs)
    wait_for_value(server, 0, "marq_queue_depth", model="metered")


@pytest.mark.slow
def test_counters_never_go_down_when_processes_are_replaced(server):
    use(server, b"blue")
    wait_for_value(server, CLIENTS * EACH, "Rows", Color="blue")
    server.scale("metered", 1)
    use(server, b"blue")
    wait_for_value(server, 2 * CLIENTS * EACH, "Rows", Color="blue")


def test_the_page_can_be_filtered(server):
    names = {name for name, _ in samples(scrape(server, "?name[]=Rows&name[]=Requests2XX"))}
    assert names == {"Rows", "Requests2XX"}


@pytest.mark.slow
def test_in_log_mode_metrics_are_lines_of_the_logs(store, start_server):
    address = f"http://127.0.0.1:{free_port()}"
    settings = {"metrics_address": address, "management_address": address, "enable_model_api": True}
    server = start_server(store, **{**CONFIG, **settings})
    server.wait_until_ready("metered", 2)
    use(server)
    logs = server.state_dir / "logs"

    def counted(file: str, metric: str) -> float:
        lines = (logs / file).read_text()
        return sum(float(number) for number in re.findall(rf" - {re.escape(metric)}:([0-9.]+)\|", lines))

    wait_for(lambda: counted("model_metrics.log", "Rows.Count") == CLIENTS * EACH, what="the rows")
    wait_for(
        lambda: counted("ts_metrics.log", "ts_inference_requests_total.Count") == CLIENTS * EACH,
        what="requests",
    )
    line = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3} - TookTime\.Milliseconds:12\.5\|#ModelName:metered,Level:Model"
    )
    assert re.search(
        rf"{line}\|#hostname:{HOST},requestID:[-0-9a-f,]+,timestamp:\d+\n",
        (logs / "model_metrics.log").read_text(),
    )
    assert "CPUUtilization.Percent:" in (logs / "ts_metrics.log").read_text()
    # the address is the management API's, too, and has marq's own metrics only
    names = {name for name, _ in samples(scrape(server))}
    assert all(name.startswith("marq_") for name in names)
    # and they go with the model
    assert httpx.delete(f"{server.management}/models/metered", timeout=60).status_code == 200
    assert total(scrape(server), "marq_batch_size_count") == 0


def test_a_scrape_does_not_hold_up_predictions(server):
    took_s, stopping = [], threading.Event()

    def keep_scraping() -> None:
        while not stopping.is_set():
            scrape(server)

    scraper = threading.Thread(target=keep_scraping)
    scraper.start()
    try:
        for _ in range(50):
            began = time.monotonic()
            assert server.predict("metered", b"x").status_code == 200
            took_s.append(time.monotonic() - began)
    finally:
        stopping.set()
        scraper.join()
    assert statistics.median(took_s) < 2
