import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest
from support import MARQ, wait_for

from marq import keys
from marq.cli.commands.server.activity import Reading, compare, quantile, views
from marq.connections import clients
from marq.metrics.catalog import REQUEST
from marq.metrics.measurements import Measurements
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec

ECHO = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return None if data is None else [bytes(row["body"]) for row in data]
"""


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", ECHO, config={"minWorkers": 1, "maxWorkers": 1})
    server = serve_models(store)
    server.wait_until_ready("echo")
    return server


def test_once_shows_all_since_the_start(server):
    for _ in range(5):
        assert server.predict("echo", b"x").status_code == 200

    def view():
        (line,) = json.loads(server.command("top", "--json").stdout)
        return line if line["mean_batch_size"] else None

    line = wait_for(view, what="the report of the pool")
    assert (line["name"], line["state"], line["replicas_ready"]) == ("echo", "ready", 1)
    assert (line["waiting"], line["oldest_s"], line["mean_batch_size"]) == (0, None, 1.0)
    table = server.command("top", "--once").stdout
    assert "Requests/s" in table
    assert "echo" in table


def test_what_waits_has_an_age(server):
    # Given a model without a replica, and a job for it
    assert server.command("scale", "echo", "0").returncode == 0
    server.submit("echo", b"x")
    time.sleep(0.3)
    # Then its job waits, and grows older
    (line,) = json.loads(server.command("top", "--json").stdout)
    assert (line["state"], line["waiting"]) == ("stopped", 1)
    assert 0.2 < line["oldest_s"] < 600
    assert server.command("scale", "echo", "1").returncode == 0
    wait_for(lambda: json.loads(server.command("top", "--json").stdout)[0]["waiting"] == 0)


def test_on_a_terminal_it_refreshes_in_place_until_ctrl_c(server):
    # Given a terminal
    controller, terminal = pty.openpty()
    environment = {**server.environment, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        [MARQ, "top", "--interval", "0.2"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    os.close(terminal)
    shown = b""
    # When some views have passed, and Ctrl-C is pressed
    while shown.count(b"echo") < 3:
        shown += os.read(controller, 4096)
    process.send_signal(signal.SIGINT)
    # Then each view was written over the one before, and the command ends cleanly
    while True:
        try:
            shown += os.read(controller, 4096)
        except OSError:
            break
    assert process.wait(60) == 0
    assert re.search(rb"\x1b\[\d*A", shown)
    assert b"Traceback" not in shown
    os.close(controller)


def test_without_a_server_it_fails(run):
    result = run("top")
    assert result.exit_code == 1
    assert "No marq server runs" in result.stderr


def test_a_view_of_many_models_takes_as_many_round_trips_as_one_of_one(redis_url, round_trips):
    def view() -> tuple[int, int]:
        round_trips.clear()
        return len(next(views(redis_url, 1.0))), len(round_trips)

    def register(name: str) -> None:
        with clients.client(redis_url) as client:
            Registry(client).register(ModelSpec(name, "1.0", "m.mar", "/m.mar", "h.py"))

    register("first")
    view()  # the first one loads the scripts
    assert (one := view())[0] == 1
    for number in range(199):
        register(f"m{number}")
    assert view() == (200, one[1])


def test_a_view_of_a_waiting_model_shows_its_age_and_its_latencies(run, note_server, redis_url):
    # Given a model with a request that has waited for an hour, and others that took up to 100 ms
    note_server(redis_url=redis_url)
    with clients.client(redis_url) as client:
        Registry(client).register(ModelSpec("echo", "1.0", "m.mar", "/m.mar", "h.py"))
        client.xadd(keys.lane("echo", "1.0"), {"body": "x"}, id=f"{int(time.time() * 1000) - 3_600_000}-0")
        measurements = Measurements()
        for labels in (("echo", "1.0", "prediction"), ("echo", "1.0", "job"), ("echo", "2.0", "prediction")):
            measurements.observe(REQUEST, labels, 0.09, model="echo")
        measurements.flush(client)
    # Then both forms show them, and nothing of other versions
    [line] = json.loads(run("top", "--json").stdout)
    assert (line["waiting"], round(line["oldest_s"] / 3600)) == (1, 1)
    assert 0 < line["latency_p50_s"] < line["latency_p99_s"] <= 0.1
    assert line["requests_per_s"] is None
    [row] = [text.split() for text in run("top", "--once").stdout.splitlines() if "echo" in text]
    assert row[:6] == ["echo", "1.0", "stopped", "0/0", "1", row[5]]
    assert row[6:9] == ["s", "-", "-"]


def reading(requests, batches, latencies=None):
    return Reading("ready", 1, 1, 0, None, requests, batches, latencies or {})


def test_a_view_tells_what_happened_since_the_one_before():
    now = reading(130, 20, {0.01: 90.0, 0.1: 40.0})
    line = compare("m", "1", now, reading(100, 10, {0.01: 90.0, 0.1: 10.0}), 2.0)
    assert (line.requests_per_s, line.mean_batch_size) == (15.0, 3.0)
    assert 0.01 < line.latency_p50_s < line.latency_p99_s < 0.1 or line.latency_p99_s <= 0.1


def test_a_replica_that_was_replaced_counts_from_zero():
    assert compare("m", "1", reading(6, 3), reading(100, 10), 2.0).requests_per_s == 3.0


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ({}, 0.5, None),
        ({0.1: 0.0}, 0.5, None),
        ({0.1: 10.0}, 0.5, 0.05),
        ({0.1: 5.0, 0.2: 5.0}, 0.5, 0.1),
        ({0.1: 5.0, 0.2: 5.0}, 0.99, 0.198),
        ({0.1: 1.0, float("inf"): 9.0}, 0.99, 0.1),
    ],
)
def test_quantiles_are_interpolated_within_buckets(counts, share, value):
    assert quantile(counts, share) == (None if value is None else pytest.approx(value))
