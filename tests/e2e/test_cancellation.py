"""Who does not want an answer any more: clients that disconnect, jobs that are cancelled, time-outs."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support import RunningServer, wait_for

HANDLER = """
import time


def handle(data, context):
    if data is None:
        return None
    for row in data:
        body = bytes(row["body"]).decode()
        print(f"ran {body}.", flush=True)
        time.sleep(float(body.partition(" ")[2] or 0))
    return ["done"] * len(data)
"""


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "slow", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    running: RunningServer = start_server(store)
    running.wait_until_ready("slow")
    return running


def connect(server: RunningServer, body: bytes, version: str = "1.1", path: str = "slow") -> socket.socket:
    """Sends a prediction and leaves it to the caller to read, or not."""
    host, port = server.inference.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /predictions/{path} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("version", ["1.1", "1.0"], ids=["the short way", "the ASGI way"])
def test_a_client_that_disconnects_takes_back_what_is_queued(server: RunningServer, version: str) -> None:
    name = version.replace(".", "-")
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(server.predict, "slow", f"first{name} 1".encode())
        wait_for(lambda: f"ran first{name} 1." in server.model_log)
        unwanted = connect(server, f"unwanted{name}".encode(), version)
        time.sleep(0.2)
        unwanted.close()
        assert running.result().text == "done"
    assert server.predict("slow", f"last{name}".encode()).text == "done"
    wait_for(lambda: f"ran last{name}." in server.model_log)
    assert f"unwanted{name}" not in server.model_log


def test_a_queued_job_that_is_cancelled_never_runs(server: RunningServer) -> None:
    first = server.submit("slow", b"before 1")
    job = server.submit("slow", b"cancelled")
    cancelled = httpx.delete(f"{server.inference}/jobs/{job}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert server.result(first).text == "done"
    assert server.result(server.submit("slow", b"after")).text == "done"
    assert "ran cancelled" not in server.model_log
    answer = server.result(job)
    assert (answer.status_code, answer.json()["message"]) == (
        409, f"Job {job} was cancelled; it has no result.",
    )  # fmt: skip


def test_the_result_of_a_running_job_that_is_cancelled_is_dropped(server: RunningServer) -> None:
    job = server.submit("slow", b"running 1")
    wait_for(lambda: "ran running 1." in server.model_log)
    assert httpx.delete(f"{server.inference}/jobs/{job}").json()["state"] == "cancelled"
    assert server.result(server.submit("slow", b"next")).text == "done"
    assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "cancelled"


def test_whoever_waits_for_a_job_hears_that_it_was_cancelled(server: RunningServer) -> None:
    server.submit("slow", b"long 1")
    job = server.submit("slow", b"waited for")
    with ThreadPoolExecutor(1) as executor:
        began = time.monotonic()
        waiting = executor.submit(httpx.get, f"{server.inference}/jobs/{job}?wait=20", timeout=30)
        time.sleep(0.2)
        httpx.delete(f"{server.inference}/jobs/{job}")
        assert waiting.result().json()["state"] == "cancelled"
        assert time.monotonic() - began < 0.9


def test_a_finished_job_cannot_be_cancelled(server: RunningServer) -> None:
    job = server.submit("slow", b"quick")
    assert server.result(job).text == "done"
    assert httpx.delete(f"{server.inference}/jobs/{job}").status_code == 409
    assert server.result(job).text == "done"


def test_an_unknown_job_cannot_be_cancelled(server: RunningServer) -> None:
    assert httpx.delete(f"{server.inference}/jobs/slow:unknown").status_code == 404


def test_a_request_that_is_late_is_answered_with_504_and_never_runs(server: RunningServer) -> None:
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(server.predict, "slow", b"busy 1")
        wait_for(lambda: "ran busy 1." in server.model_log)
        late = server.predict("slow", b"late", headers={"X-Request-Timeout": "0.2"})
        job = server.submit("slow", b"late job", headers={"X-Request-Timeout": "0.2"})
        assert running.result().text == "done"
    assert (late.status_code, late.json()["type"]) == (504, "RequestTimeoutException")
    assert server.result(job).status_code == 504
    assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "expired"
    assert "ran late" not in server.model_log


def test_a_request_in_time_is_answered(server: RunningServer) -> None:
    assert server.predict("slow", b"prompt", headers={"X-Request-Timeout": "20"}).text == "done"


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan", ""])
def test_a_time_out_that_is_none_is_a_400_that_tells_what_is_one(server: RunningServer, given: str) -> None:
    for path in ("predictions", "jobs"):
        answer = httpx.post(f"{server.inference}/{path}/slow", headers={"X-Request-Timeout": given})
        assert answer.status_code == 400
        assert "must be a number of seconds above 0" in answer.json()["message"]
