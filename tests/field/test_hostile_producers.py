"""Producers and uploads that meet the end of a model: all is answered, and nothing stays in Redis."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from gate import Gate
from support import RunningServer, wait_for

HANDLER = """
import pathlib, time

def handle(data, context):
    if data is None:
        return None
    for row in data:
        gate = bytes(row["body"]).decode()
        while gate.startswith("/") and not pathlib.Path(gate).exists():
            time.sleep(0.01)
    return ["done"] * len(data)
"""


@pytest.fixture(scope="module")
def store(make_archive: Callable[..., Path], tmp_path_factory: Any) -> Path:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "leaving", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    return store


@pytest.fixture
def server(serve_models: Callable[..., RunningServer], store: Path) -> RunningServer:
    running = serve_models(store, [])
    register(running)
    return running


def register(server: RunningServer) -> None:
    query: dict[str, Any] = {"url": "leaving.mar", "initial_workers": 1, "synchronous": "true"}
    httpx.post(f"{server.management}/models", params=query, timeout=60).raise_for_status()


def unregister(server: RunningServer) -> None:
    httpx.delete(f"{server.management}/models/leaving", timeout=60).raise_for_status()


def keys_of_the_model(client: redis.Redis) -> list[bytes]:
    return sorted(key for key in client.scan_iter(count=1000) if b"leaving" in key)


def begin_upload(server: RunningServer, path: str) -> socket.socket:
    host, port = server.inference.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf "
    connection.sendall(head.encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with connection:
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize(
    "path", ["/predictions/leaving", "/predictions/leaving/1.0", "/jobs/leaving", "/explanations/leaving"]
)
def test_a_body_that_arrives_after_its_model_has_gone_is_refused(server: RunningServer, path: str) -> None:
    connection = begin_upload(server, path)
    wait_for(lambda: server.predict("leaving").text == "done", what="another request of that gateway")
    unregister(server)
    connection.sendall(b"rest.")
    answer = read_all(connection)
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 503 ")), answer
    with redis.Redis.from_url(server.redis_url) as client:
        assert not [key for key in keys_of_the_model(client) if b":normal:" in key or b":job:" in key]


def test_after_its_end_nothing_of_a_model_is_in_redis_but_finished_jobs(server: RunningServer) -> None:
    job = server.submit("leaving", b"x")
    assert server.result(job).text == "done"
    with redis.Redis.from_url(server.redis_url) as client:
        client.xadd("marq:{leaving}:low:1.0", {"body": b"x", "reply": "leaving-answers"})
        wait_for(lambda: client.xlen("leaving-answers"), what="the answer to the entry")
        client.delete("leaving-answers")
        assert keys_of_the_model(client)
        unregister(server)
        left = keys_of_the_model(client)
        assert [key for key in left if not key.startswith(b"marq:{leaving}:job")] == []
        assert all(client.ttl(key) > 0 for key in left)
        bindings = client.scan_iter("marq:celery:_kombu.binding*", _type="set")
        assert [key for key in bindings if any(b"leaving" in member for member in client.smembers(key))] == []


def test_entries_that_come_while_their_model_is_unregistered_are_answered(
    server: RunningServer, gate: Gate
) -> None:
    with redis.Redis.from_url(server.redis_url) as client:
        client.xadd(
            "marq:{leaving}:normal:1.0", {"body": str(gate), "reply": "leaving-answers", "id": "runs"}
        )
        wait_for(lambda: server.workers("leaving")[0]["status"], what="the replica")
        for number in range(500):
            client.xadd(
                "marq:{leaving}:normal:1.0", {"body": b"x", "reply": "leaving-answers", "id": str(number)}
            )
        gate.open()
        unregister(server)
        for number in range(500, 1000):
            client.xadd(
                "marq:{leaving}:normal:1.0", {"body": b"x", "reply": "leaving-answers", "id": str(number)}
            )
        register(server)
        wait_for(lambda: client.xlen("leaving-answers") >= 1001, what="all answers")
        client.delete("leaving-answers")
    unregister(server)


def test_a_job_whose_id_was_queued_twice_keeps_its_first_result(server: RunningServer, gate: Gate) -> None:
    lane = "marq:{leaving}:normal:1.0"
    with redis.Redis.from_url(server.redis_url) as client:
        client.xadd(lane, {"body": b"x", "id": "same", "job": "1"})
        wait_for(lambda: server.result("leaving:same").text == "done", what="the result")
        client.xadd(lane, {"body": str(gate), "id": "other", "job": "1"})
        client.xadd(lane, {"body": b"x", "id": "same", "job": "1"})
        gate.open()
        unregister(server)
    state = httpx.get(f"{server.inference}/jobs/leaving:same").json()
    assert (state["state"], server.result("leaving:same").text) == ("succeeded", "done"), json.dumps(state)
