"""Handlers whose `handle` is a coroutine function (`asyncCommunication: true`)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import pytest
from gate import Gate
from support import RunningServer, wait_for

TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "asyncCommunication": True}
    make_archive(store, "patient", handlers.ASYNC, config)
    make_archive(store, "hasty", handlers.ASYNC, {**config, "responseTimeout": 3})
    make_archive(store, "plain", handlers.ECHO, config)
    make_archive(store, "undeclared", handlers.ASYNC, {**config, "asyncCommunication": False})
    running: RunningServer = serve_models(store)
    for model in ("patient", "hasty", "plain", "undeclared"):
        running.wait_until_ready(model)
    return running


def test_many_requests_run_at_the_same_time_in_one_replica(server: RunningServer, gate: Gate) -> None:
    body = f"hold {gate}"
    with ThreadPoolExecutor(40) as executor:
        running = [executor.submit(server.predict, "patient", body.encode(), headers=TEXT) for _ in range(40)]
        gate.wait_until_reached(40)
        gate.open()
        for answer in (each.result() for each in running):
            assert answer.text == f"{body} {answer.headers['x-request-id']}"


def test_a_failure_fails_only_its_own_request(server: RunningServer) -> None:
    with ThreadPoolExecutor(3) as executor:
        asked = [b"fail", b"exit", b"fine"]
        answers = list(executor.map(lambda b: server.predict("patient", b, headers=TEXT), asked))
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    wait_for(lambda: "only this one" in server.model_log)


def test_what_takes_too_long_is_cancelled_and_a_stream_that_goes_on_is_not(
    server: RunningServer, gate: Gate
) -> None:
    pids = {worker["pid"] for worker in server.workers("hasty")}
    url = f"{server.inference}/predictions/hasty"
    # Given a stream that began before another request, and goes on for longer than the response time-out
    with httpx.stream("POST", url, content=f"stream {gate}".encode(), headers=TEXT) as response:
        parts = response.iter_text()
        assert next(parts).startswith("part ")
        # When the other request takes too long
        answer = server.predict("hasty", b"hang", headers=TEXT)
        assert (answer.status_code, answer.json()["type"]) == (504, "RequestTimeoutException")
        gate.open()
        # Then the stream comes to its end, and the replica goes on
        assert "".join(parts).endswith("part end")
    assert server.predict("hasty", b"fine", headers=TEXT).status_code == 200
    assert {worker["pid"] for worker in server.workers("hasty")} == pids


def test_an_ordinary_handler_needs_the_ordinary_mode(server: RunningServer) -> None:
    assert server.predict("plain", b"x", headers=TEXT).status_code == 503
    wait_for(lambda: "can't be used in 'await' expression" in server.model_log)


def test_a_coroutine_handler_that_does_not_say_so_is_told_what_to_set(server: RunningServer) -> None:
    answer = server.predict("undeclared", b"x", headers=TEXT)
    assert answer.status_code == 503
    assert "set `asyncCommunication: true`" in answer.json()["message"]
    wait_for(lambda: "set `asyncCommunication: true`" in server.model_log)


def test_a_drained_replica_finishes_what_it_runs(server: RunningServer, gate: Gate) -> None:
    body = f"hold {gate}".encode()
    with ThreadPoolExecutor(21) as executor:
        running = [executor.submit(server.predict, "patient", body, headers=TEXT) for _ in range(20)]
        gate.wait_until_reached(20)
        scaled = executor.submit(server.scale, "patient", 0)
        server.wait_until_draining("patient")
        gate.open()
        scaled.result()
        assert [answer.result().status_code for answer in running] == [200] * 20
