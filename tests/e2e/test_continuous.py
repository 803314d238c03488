"""Continuous batching over HTTP: what nobody waits for any more leaves between two steps of the handler."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import RunningServer, wait_for

HANDLER = """
import time


class Endless:
    def initialize(self, context):
        self.texts = {}

    def handle(self, data, context):
        time.sleep(0.005)
        ids = list(context.request_ids.values())
        for name, row in zip(ids, data):
            if row:
                self.texts[name] = bytes(row["body"])
        goes_on = [self.texts[name] != b"count" for name in ids]
        context.stopping_criteria = [lambda _, goes_on=each: False if goes_on else None for each in goes_on]
        return ["letter " if each else str(len(ids)) for each in goes_on]
"""


@pytest.fixture(scope="module")
def server(
    serve_models: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path_factory: Any
) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "endless", HANDLER, {"continuousBatching": True, "batchSize": 4, "minWorkers": 1})
    running = serve_models(store)
    running.wait_until_ready("endless")
    return running


def live(server: RunningServer) -> int:
    """How many requests are live, without the one that asks."""
    return int(server.predict("endless", b"count").text) - 1


def test_a_client_that_goes_away_leaves_the_live_requests(server: RunningServer) -> None:
    with httpx.stream("POST", f"{server.inference}/predictions/endless", content=b"x", timeout=60) as answer:
        letters = answer.iter_text()
        assert next(letters).startswith("letter")
        assert live(server) == 1
    wait_for(lambda: live(server) == 0, what="the end of the request", log=server.log)


def test_a_job_that_is_cancelled_leaves_the_live_requests(server: RunningServer) -> None:
    job = server.submit("endless", b"x")
    wait_for(lambda: live(server) == 1, what="its begin", log=server.log)
    httpx.delete(f"{server.inference}/jobs/{job}").raise_for_status()
    wait_for(lambda: live(server) == 0, what="its end", log=server.log)
    assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "cancelled"


def test_a_job_whose_deadline_passes_leaves_the_live_requests(server: RunningServer) -> None:
    began = time.time()
    job = server.submit("endless", b"x", headers={"X-Request-Timeout": "1"})
    wait_for(lambda: live(server) == 0 and time.time() > began + 1, what="its end", log=server.log)
    found = httpx.get(f"{server.inference}/jobs/{job}").json()
    assert (found["state"], found["status"]) in [("failed", 504), ("expired", 504)]


def test_the_mean_batch_is_a_dash(server: RunningServer) -> None:
    assert server.predict("endless", b"count").text
    words = [line.split() for line in server.command("status").stdout.splitlines()]
    [model] = [line for line in words if line[:1] == ["endless"]]
    assert model[-2:] == ["-", "cpu"]
