"""Handlers whose `handle` is a coroutine function (`asyncCommunication: true`)."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import pytest
import redis
from support import RunningServer, wait_for

from marq import keys

TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "asyncCommunication": True, "responseTimeout": 1}
    make_archive(store, "sleeper", handlers.ASYNC, config)
    make_archive(store, "plain", handlers.ECHO, config)
    make_archive(store, "undeclared", handlers.ASYNC, {**config, "asyncCommunication": False})
    running: RunningServer = serve_models(store)
    for model in ("sleeper", "plain", "undeclared"):
        running.wait_until_ready(model)
    return running


def test_many_requests_run_at_the_same_time_in_one_replica(server: RunningServer) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(40) as executor:
        bodies = [f"row{n}" for n in range(40)]
        answers = list(executor.map(lambda b: server.predict("sleeper", b.encode(), headers=TEXT), bodies))
    assert time.monotonic() - began < 12  # one after the other would take 20 s
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.text == f"{body} {answer.headers['x-request-id']}"


def test_a_failure_fails_only_its_own_request(server: RunningServer) -> None:
    with ThreadPoolExecutor(3) as executor:
        asked = [b"fail", b"exit", b"fine"]
        answers = list(executor.map(lambda b: server.predict("sleeper", b, headers=TEXT), asked))
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    wait_for(lambda: "only this one" in server.model_log)


def test_what_takes_too_long_is_cancelled_and_the_others_are_not(server: RunningServer) -> None:
    with ThreadPoolExecutor(2) as executor:
        hanging = executor.submit(server.predict, "sleeper", b"hang", headers=TEXT)
        time.sleep(0.8)
        assert server.predict("sleeper", b"fine", headers=TEXT).status_code == 200
        answer = hanging.result()
    assert (answer.status_code, answer.json()["type"]) == (504, "RequestTimeoutException")
    pids = {worker["pid"] for worker in server.workers("sleeper")}
    assert server.predict("sleeper", b"fine", headers=TEXT).status_code == 200
    assert {worker["pid"] for worker in server.workers("sleeper")} == pids


def test_a_stream_may_take_longer_than_the_response_time_out_between_two_parts(server: RunningServer) -> None:
    url = f"{server.inference}/predictions/sleeper"
    with httpx.stream("POST", url, content=b"stream", headers=TEXT) as response:
        parts = list(response.iter_text())
    assert parts == [*(f"{n} " for n in range(8)), "end"]


def test_an_ordinary_handler_needs_the_ordinary_mode(server: RunningServer) -> None:
    assert server.predict("plain", b"x", headers=TEXT).status_code == 503
    wait_for(lambda: "can't be used in 'await' expression" in server.model_log)


def test_a_coroutine_handler_that_does_not_say_so_is_told_what_to_set(server: RunningServer) -> None:
    answer = server.predict("undeclared", b"x", headers=TEXT)
    assert (answer.status_code, answer.json()["message"]) == (503, "Invalid model predict output")
    wait_for(lambda: "set `asyncCommunication: true`" in server.model_log)


def taken_or_answered(server: RunningServer, running: list[Future[httpx.Response]]) -> int:
    with redis.Redis.from_url(server.redis_url) as client:
        taken = client.xpending(keys.lane("sleeper", "1.0"), keys.GROUP)["pending"]
    return int(taken) + sum(answer.done() for answer in running)


def test_a_drained_replica_finishes_what_it_runs(server: RunningServer) -> None:
    with ThreadPoolExecutor(20) as executor:
        running = [executor.submit(server.predict, "sleeper", b"row", headers=TEXT) for _ in range(20)]
        wait_for(lambda: taken_or_answered(server, running) >= 20)
        server.scale("sleeper", 0)
        server.scale("sleeper", 1)
        assert [answer.result().status_code for answer in running] == [200] * 20
