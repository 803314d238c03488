"""Replicas that are replaced while clients go on: reloads, and models that could not be loaded."""

import os
import signal
import threading
import time
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
from support import RunningServer, wait_for

from workers.node.pools import RESTART_EVERY_S

# Its replicas load or fail as a file says that the test writes.
MOODY = """
from pathlib import Path

if Path({path!r}).read_text() != "well":
    raise RuntimeError("not in the mood")


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and ["well"] * len(data)
"""


@pytest.fixture(scope="module")
def mood(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mood") / "mood"


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory, mood) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "square", handlers.SQUARE, {"minWorkers": 2, "maxWorkers": 2, "batchSize": 4})
    moody = {"minWorkers": 1, "maxWorkers": 1, "maxRetryTimeoutInSec": 1}
    make_archive(store, "moody", MOODY.format(path=str(mood)), moody)
    mood.write_text("ill")
    running: RunningServer = serve_models(store)
    running.wait_until_ready("square", 2)
    return running


def test_a_reload_replaces_all_replicas_without_one_failed_request(server: RunningServer) -> None:
    stop, failures, answered = threading.Event(), [], []

    def ask() -> None:
        with httpx.Client(base_url=server.inference, timeout=60) as client:
            while not stop.is_set():
                answer = client.post(
                    "/predictions/square", content=b"12", headers={"content-type": "text/plain"}
                )
                (answered if answer.text == "144" else failures).append(answer)

    before = {worker["pid"] for worker in server.workers("square")}
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    reloaded = httpx.post(f"{server.management}/models/square/reload?synchronous=true", timeout=60)
    stop.set()
    for asker in askers:
        asker.join()
    assert (reloaded.status_code, reloaded.json()["status"]) == (
        200, "Workers reloaded for model: square, version: 1.0",
    )  # fmt: skip
    assert not before & {worker["pid"] for worker in server.workers("square")}
    assert not failures
    assert len(answered) > 5


def test_a_model_that_cannot_be_loaded_refuses_with_its_reason_until_it_is_scaled_again(
    server: RunningServer, mood: Path
) -> None:
    # Given a model that has been failing for longer than it may
    refused = wait_for(
        lambda: answer if (answer := server.predict("moody", b"x")).status_code == 503 else None, 20
    )
    assert refused.json()["message"] == (
        'Model "moody" Version 1.0 cannot be loaded: RuntimeError: not in the mood (moody_handler.py, line 5)'
    )
    wait_for(lambda: httpx.post(f"{server.inference}/jobs/moody", content=b"x").status_code == 503)
    # When what was wrong is put right, and the scale call comes again
    mood.write_text("well")
    url = f"{server.management}/models/moody?min_worker=1&max_worker=1&synchronous=true"
    assert httpx.put(url, timeout=60).status_code == 200
    # Then it serves
    wait_for(lambda: server.predict("moody", b"x").text == "well")


def test_a_reload_that_fails_leaves_the_old_replicas_at_work(server: RunningServer, mood: Path) -> None:
    server.wait_until_ready("moody")
    mood.write_text("ill")
    reloaded = httpx.post(f"{server.management}/models/moody/reload?synchronous=true", timeout=60)
    assert reloaded.status_code == 500
    assert server.predict("moody", b"x").text == "well"
    mood.write_text("well")
    assert httpx.post(f"{server.management}/models/moody/reload?synchronous=true").status_code == 200


def test_an_unknown_model_cannot_be_reloaded(server: RunningServer) -> None:
    assert httpx.post(f"{server.management}/models/nobody/reload").status_code == 404


def pool_of(server: RunningServer, model: str) -> int | None:
    """The process id of the model's pool, if it runs."""
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if any(word.startswith(f"{model}-1.0@") for word in process.cmdline()):
                return process.pid
        except psutil.Error:
            continue  # it has just ended
    return None


@pytest.mark.slow
def test_a_pool_that_has_ended_is_started_again_at_once_but_not_in_a_busy_loop(
    server: RunningServer,
) -> None:
    def successor(ended: int) -> int:
        os.kill(ended, signal.SIGKILL)
        pid = wait_for(lambda: pid if (pid := pool_of(server, "square")) not in (None, ended) else None)
        began.append(psutil.Process(pid).create_time())
        return int(pid)

    began: list[float] = []
    server.wait_until_ready("square", 2)
    first = pool_of(server, "square")
    assert first
    killed = time.time()
    second = successor(first)  # which is killed while it starts
    successor(second)
    assert began[0] - killed < 10
    assert began[1] - began[0] > RESTART_EVERY_S * 0.9
    text = {"content-type": "text/plain"}
    assert server.predict("square", b"12", headers=text).text == "144"
