"""Requests that take longer than `responseTimeout`: how often they run, and when they are answered."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import RunningServer, wait_for

HANDLER = """
import time


def handle(data, context):
    if data is None:
        return None
    for row in data:
        name, _, seconds = bytes(row["body"]).decode().partition(" ")
        print(f"ran {name}.", flush=True)
        time.sleep(float(seconds or 0))
    return ["done"] * len(data)
"""
TIMEOUT_S = 2
ROWS = 3


@pytest.fixture(scope="module")
def server(
    serve_models: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path_factory: Any
) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "responseTimeout": TIMEOUT_S}
    full = {"batchSize": ROWS, "maxBatchDelay": 60_000, "batching": "fixed"}  # batches of that many rows only
    make_archive(store, "late", HANDLER, config)
    make_archive(store, "together", HANDLER, {**config, **full})
    running = serve_models(store)
    running.wait_until_ready("late")
    running.wait_until_ready("together")
    return running


def runs(server: RunningServer, name: str) -> int:
    return server.model_log.count(f"ran {name}.")


def test_one_that_is_late_alone_runs_once_and_is_answered_at_once(server: RunningServer) -> None:
    began = time.monotonic()
    answer = server.predict("late", b"mail 60")
    assert time.monotonic() - began < 30
    assert answer.status_code == 500
    first, reason = answer.json()["message"].split("\n")
    assert first == "Worker died."
    assert reason == f"No answer within the response time-out of {TIMEOUT_S} s."
    assert server.predict("late", b"next").text == "done"
    wait_for(lambda: runs(server, "next") == 1)
    assert runs(server, "mail") == 1


def test_those_of_a_batch_that_was_late_run_once_more_each_alone(server: RunningServer) -> None:
    names = ["a", "b", "c"]
    orders = ["a 60", "b 0", "c 0"]
    with ThreadPoolExecutor(ROWS) as executor:
        answers = [executor.submit(server.predict, "together", order.encode()) for order in orders]
        statuses = [answer.result().status_code for answer in answers]
    assert statuses == [500, 200, 200]
    wait_for(lambda: runs(server, "a") == 2, what="the second run of the late one")
    assert max(runs(server, name) for name in names) == 2


def test_a_job_that_is_late_alone_has_failed_after_one_run(server: RunningServer) -> None:
    answer = server.result(server.submit("late", b"job 60"))
    assert answer.status_code == 500
    assert server.predict("late", b"after").text == "done"
    wait_for(lambda: runs(server, "after") == 1)
    assert runs(server, "job") == 1
