"""A server whose Redis is watched by sentinels outlives the loss of the primary, under load."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import pytest
from failover import PASSWORD, SENTINEL_PASSWORD, WatchedRedis, watched_redis
from support import RunningServer, wait_for

pytestmark = pytest.mark.slow

CELERY = Path(sys.executable).with_name("celery")
TIMEOUT_S = 15  # of a prediction: longer than a failover takes
CLIENTS, LOAD_AFTER_S = 4, 3.0


class Load:
    """Clients that ask for squares until told to stop; jobs are sent again until they are accepted."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._stopping, self._may_submit = threading.Event(), threading.Event()
        self._submitting = threading.Lock()
        self._may_submit.set()
        self.jobs: dict[int, str] = {}  # the number -> the id that was answered with 202
        self.predictions: list[tuple[int, int, str, float]] = []  # number, status, answer, seconds
        self._threads = ThreadPoolExecutor(CLIENTS + 1)
        self._running = [self._threads.submit(self._predict, client) for client in range(CLIENTS)]
        self._running.append(self._threads.submit(self._submit))

    def pause_jobs(self) -> None:
        """Returns when every job that was sent is answered."""
        self._may_submit.clear()
        with self._submitting:
            pass

    def resume_jobs(self) -> None:
        self._may_submit.set()

    def stop(self) -> None:
        self._stopping.set()
        for running in self._running:
            running.result(60)

    def _predict(self, client: int) -> None:
        number = client
        with httpx.Client(timeout=2 * TIMEOUT_S, headers={"X-Request-Timeout": str(TIMEOUT_S)}) as http:
            while not self._stopping.is_set():
                number, began = number + CLIENTS, time.monotonic()
                answer = http.post(f"{self._server.inference}/predictions/square", content=str(number))
                took = time.monotonic() - began
                self.predictions.append((number, answer.status_code, answer.text, took))
                time.sleep(0.05 if answer.status_code == 503 else 0.005)

    def _submit(self) -> None:
        number = 0
        with httpx.Client(timeout=60) as http:
            while not self._stopping.is_set():
                self._may_submit.wait(0.1)
                with self._submitting:
                    if self._may_submit.is_set() and self._submit_one(http, number):
                        number += 1
                time.sleep(0.01)

    def _submit_one(self, http: httpx.Client, number: int) -> bool:
        url, key = f"{self._server.inference}/jobs/square", {"Idempotency-Key": f"job {number}"}
        answer = http.post(url, content=str(number), headers=key)
        assert answer.status_code in (202, 503), answer.text
        if answer.status_code == 202:
            self.jobs[number] = answer.json()["job_id"]
        return answer.status_code == 202


@pytest.fixture
def watched(tmp_path):
    with watched_redis(tmp_path, sentinels=3) as watched:
        yield watched


@pytest.fixture(scope="module")
def store(make_archive, tmp_path_factory) -> Path:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "square", handlers.SQUARE, {"minWorkers": 2, "maxWorkers": 2, "batchSize": 4})
    return store


@pytest.fixture
def server(watched, store, start_server) -> RunningServer:
    running: RunningServer = start_server(store, "all", ["--disable-token-auth", "--redis-url", watched.url])
    running.wait_until_ready("square", 2)
    yield running
    running.stop()


def lose_the_primary(watched: WatchedRedis, number: int, load: Load) -> None:
    """All jobs accepted so far are on the replica: what one that lags has not got yet would be lost."""
    load.pause_jobs()
    watched.wait_until_replicated()
    watched.primary.process.send_signal(number)
    load.resume_jobs()
    watched.wait_until_promoted()


def check_predictions(load: Load) -> None:
    for number, status, answer, took in load.predictions:
        assert status in (200, 503), answer
        assert took < TIMEOUT_S
        assert status == 503 or answer == str(number**2)


def celery(server: RunningServer, *arguments: str) -> dict:
    done = subprocess.run(
        [CELERY, "-A", "workers.app", *arguments, "--json"],
        env={**server.environment, "MARQ_REDIS_URL": server.redis_url},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else {}


def test_a_killed_primary_costs_no_accepted_job_and_no_prediction_for_long(server, watched) -> None:
    # Given a server under load
    assert list(celery(server, "inspect", "ping").values()) == [{"ok": "pong"}]
    load = Load(server)
    wait_for(lambda: len(load.jobs) > 50, what="some jobs")
    # When the primary is killed
    accepted = len(load.jobs)
    lose_the_primary(watched, signal.SIGKILL, load)
    # Then predictions and jobs are accepted again
    promoted = len(load.predictions)
    wait_for(lambda: any(status == 200 for _, status, *_ in load.predictions[promoted:]), what="an answer")
    wait_for(lambda: len(load.jobs) > accepted + 50, what="new jobs")
    time.sleep(LOAD_AFTER_S)
    load.stop()
    # And every one that was accepted is answered rightly
    check_predictions(load)
    answers = {number: server.result(job).text for number, job in load.jobs.items()}
    assert answers == {number: str(number**2) for number in load.jobs}
    assert Counter(status for _, status, *_ in load.predictions[-CLIENTS:]) == {200: CLIENTS}
    # And what steers pools works, too
    wait_for(lambda: list(celery(server, "inspect", "ping").values()) == [{"ok": "pong"}], what="Celery")
    server.scale("square", 3)
    assert len(server.workers("square")) == 3
    assert server.marq("status").returncode == 0
    # And no password was logged
    logs = [server.log, *(server.state_dir / "logs").iterdir()]
    told = "".join(log.read_text() for log in logs)
    assert not any(password in told for password in (PASSWORD, SENTINEL_PASSWORD))


def test_a_primary_that_hangs_is_left_for_the_new_one(server, watched) -> None:
    load = Load(server)
    wait_for(lambda: len(load.jobs) > 20, what="some jobs")
    lose_the_primary(watched, signal.SIGSTOP, load)
    promoted = len(load.predictions)
    wait_for(lambda: any(status == 200 for _, status, *_ in load.predictions[promoted:]), what="an answer")
    # And when it comes to itself it takes nothing that would be lost
    watched.primary.process.send_signal(signal.SIGCONT)
    time.sleep(LOAD_AFTER_S)
    load.stop()
    check_predictions(load)
    answers = {number: server.result(job).text for number, job in load.jobs.items()}
    assert answers == {number: str(number**2) for number in load.jobs}
    server.scale("square", 1)
