"""What happens to requests when replicas end: nothing is lost, and only the guilty fail."""

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
import redis
from gate import Gate
from support import RunningServer, wait_for

import marq
from marq import keys

PREDICTIONS = JOBS = 2000


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(
        store, "square", handlers.SQUARE,
        {"batchSize": 8, "maxBatchDelay": 5, "minWorkers": 2, "maxWorkers": 2, "jobQueueSize": 5000},
    )  # fmt: skip
    make_archive(
        store, "poison", handlers.POISON,
        {"batchSize": 8, "maxBatchDelay": 200, "batching": "fixed", "minWorkers": 1, "maxWorkers": 1},
    )  # fmt: skip
    make_archive(store, "slow", handlers.SLOW, {"minWorkers": 1, "maxWorkers": 1, "responseTimeout": 30})
    make_archive(store, "broken", handlers.BROKEN, {"minWorkers": 1, "maxWorkers": 1})
    running: RunningServer = serve_models(store)
    running.wait_until_ready("square", 2)
    running.wait_until_ready("poison")
    running.wait_until_ready("slow")
    return running


class Killer(threading.Thread):
    """SIGKILLs a random replica of a model every so often, until it is told to stop."""

    def __init__(self, server: RunningServer, model: str, every_s: float) -> None:
        super().__init__()
        self.server, self.model, self.every_s = server, model, every_s
        self.kills = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(self.every_s):
            ready = [worker for worker in self.server.workers(self.model) if worker["status"] == "READY"]
            if ready:
                os.kill(random.choice(ready)["pid"], signal.SIGKILL)
                self.kills += 1

    def __enter__(self) -> "Killer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()


@pytest.mark.slow
def test_replicas_killed_at_random_lose_no_prediction_and_no_job(server: RunningServer) -> None:
    numbers = range(PREDICTIONS)
    text = {"content-type": "text/plain"}
    with (
        marq.Client(server.redis_url) as client,
        httpx.Client(timeout=60) as http,
        ThreadPoolExecutor(16) as threads,
        Killer(server, "square", 0.4) as killer,
    ):
        # Given jobs and predictions that are being served
        jobs = client.submit_many("square", [str(number) for number in range(JOBS)])
        url = f"{server.inference}/predictions/square"
        predictions = threads.map(lambda n: http.post(url, content=str(n), headers=text), numbers)
        # When replicas are killed meanwhile
        predicted = [(answer.status_code, answer.text) for answer in predictions]
        results = [job.result(timeout=60).json() for job in jobs]
    # Then every answer has come, and is right
    assert killer.kills >= 3
    assert predicted == [(200, str(number**2)) for number in numbers]
    assert results == [number**2 for number in range(JOBS)]
    with redis.Redis.from_url(server.redis_url) as connection:
        assert connection.xlen(keys.dead_letters("square")) == 0
        left = [connection.xlen(lane) for lane in keys.lanes("square", "1.0")]
        assert left == [0, 0, 0, 0]


def test_a_request_that_kills_its_replica_fails_alone(server: RunningServer) -> None:
    # Given one poisonous request in a batch of eight
    bodies = ["fine"] * 4 + ["poison"] + ["fine"] * 3
    text = {"content-type": "text/plain"}
    # When they run together
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(
                lambda body: httpx.post(
                    f"{server.inference}/predictions/poison", content=body, headers=text, timeout=60
                ),
                bodies,
            )
        )
    # Then the poisonous one is answered as TorchServe would, and its neighbours succeed
    assert [answer.status_code for answer in answers] == [200] * 4 + [500] + [200] * 3
    assert answers[4].json() == {"code": 500, "type": "InternalServerException", "message": "Worker died."}
    with redis.Redis.from_url(server.redis_url) as connection:
        (_, letter), *others = connection.xrange(keys.dead_letters("poison"))
    assert not others
    assert b"signal 9" in letter[b"reason"]
    assert letter[b"body"] == b"poison"


def test_a_replica_that_is_told_to_end_finishes_what_it_runs_and_leaves_the_rest_queued(
    server: RunningServer, gate: Gate
) -> None:
    with ThreadPoolExecutor(3) as threads:
        # Given one request that runs and two that wait
        answers = [threads.submit(server.predict, "slow", f"hold {gate}".encode()) for _ in range(3)]
        pid = server.workers("slow")[0]["pid"]
        replica = psutil.Process(pid)
        gate.wait_until_reached()
        # When the replica gets SIGTERM
        replica.terminate()
        gate.open()
        # Then it ends by itself, and all three are answered, two of them by its successor
        assert replica.wait(60) in (0, None)
        assert [answer.result().text for answer in answers] == ["done"] * 3
        wait_for(lambda: pid not in [worker["pid"] for worker in server.workers("slow")])


def test_a_model_that_cannot_be_loaded_is_tried_again_and_says_why(server: RunningServer) -> None:
    wait_for(lambda: "this module cannot be imported" in server.marq("status", "--json").stdout)
    assert server.predict("square", b"3", headers={"content-type": "text/plain"}).text == "9"
