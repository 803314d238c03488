"""How often a request is tried whose replicas end: set through the API, also while replicas run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
from support import RunningServer, wait_for

TEXT = {"content-type": "text/plain"}
BODIES = ["fine"] * 4 + ["poison"] + ["fine"] * 3


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"batchSize": 8, "maxBatchDelay": 60_000, "batching": "fixed", "maxAttempts": 2}
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


def replica(server: RunningServer) -> int | None:
    """The process id of the replica that is ready; none right after one was killed."""
    pids = [worker["pid"] for worker in server.workers("poison") if worker["status"] == "READY"]
    return next(filter(psutil.pid_exists, pids), None)


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
    pid = wait_for(lambda: replica(server), what="a new replica")
    changed = httpx.put(f"{server.management}/models/poison?max_attempts=4")
    assert changed.status_code == 200
    assert replica(server) == pid
    # Then only the guilty one fails, after four
    assert outcome(server) == [200] * 4 + [500] + [200] * 3
    assert attempts(server) == [1] * 8 + [4]
