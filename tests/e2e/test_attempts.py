"""How often a request is tried whose replicas end: set through the API, also while replicas run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import pytest
from support import RunningServer

TEXT = {"content-type": "text/plain"}
BODIES = ["fine"] * 4 + ["poison"] + ["fine"] * 3


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"batchSize": 8, "maxBatchDelay": 500, "batching": "fixed", "maxAttempts": 2}
    make_archive(store, "poison", handlers.POISON, config)
    running: RunningServer = serve_models(store, [])
    registered = httpx.post(
        f"{running.management}/models",
        params={"url": "poison.mar", "initial_workers": 1, "max_attempts": 1},
        timeout=60,
    )
    assert registered.status_code == 200
    return running


def outcome(server: RunningServer) -> list[int]:
    """The statuses of a batch with one request in it that kills its replica."""
    url = f"{server.inference}/predictions/poison"
    with ThreadPoolExecutor(len(BODIES)) as threads:
        asked = [threads.submit(httpx.post, url, content=b, headers=TEXT, timeout=60) for b in BODIES]
        return [answer.result().status_code for answer in asked]


def attempts(server: RunningServer) -> list[int]:
    """Of all dead letters of the model."""
    letters = httpx.get(f"{server.management}/dead-letters/poison").json()["dead_letters"]
    return sorted(letter["attempts"] for letter in letters)


def test_with_one_attempt_a_crash_fails_its_batch_and_with_more_the_guilty_alone(
    server: RunningServer,
) -> None:
    # Given a model that was registered with one attempt: nothing that was being run is run again
    assert outcome(server) == [500] * 8
    assert attempts(server) == [1] * 8
    # When its running pool is allowed four
    pid = server.workers("poison")[0]["pid"]
    changed = httpx.put(f"{server.management}/models/poison?max_attempts=4")
    assert changed.status_code == 200
    assert server.workers("poison")[0]["pid"] == pid
    # Then only the guilty one fails, after four
    assert outcome(server) == [200] * 4 + [500] + [200] * 3
    assert attempts(server) == [1] * 8 + [4]
