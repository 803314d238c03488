"""Who does not want an answer any more: clients that disconnect, jobs that are cancelled, time-outs."""

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import redis
from gate import HOLD, Gate
from support import RunningServer, wait_for

HANDLER = (
    HOLD
    + """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    for row in data:
        name, _, gate = bytes(row["body"]).decode().partition(" ")
        print(f"ran {name}.", flush=True)
        if gate == "0.1":
            time.sleep(0.1)
        elif gate:
            hold(gate)
    return ["done"] * len(data)
"""
)

HELD_S = 0.5  # a replica that has held a row for less than a tenth of it may run it without another look


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "slow", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    running: RunningServer = serve_models(store)
    running.wait_until_ready("slow")
    return running


def waiting(server: RunningServer) -> int:
    """How many requests wait for a replica."""
    (described,) = httpx.get(f"{server.management}/models/slow").json()
    return int(described["jobQueueStatus"]["pendingRequests"])


def has_run(server: RunningServer, name: str) -> bool:
    """Whether the request has been run; all that ran before it is in the log as well by then."""
    return f"ran {name}." in server.model_log


def connect(server: RunningServer, body: bytes, version: str = "1.1", path: str = "slow") -> socket.socket:
    """Sends a prediction and leaves it to the caller to read, or not."""
    host, port = server.inference.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /predictions/{path} HTTP/{version}\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("version", ["1.1", "1.0"], ids=["the short way", "the ASGI way"])
def test_a_client_that_disconnects_takes_back_what_is_queued(
    server: RunningServer, version: str, gate: Gate
) -> None:
    name = version.replace(".", "-")
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(server.predict, "slow", f"first{name} {gate}".encode())
        gate.wait_until_reached()
        unwanted = connect(server, f"unwanted{name}".encode(), version)
        wait_for(lambda: waiting(server) == 1)
        unwanted.close()
        wait_for(lambda: waiting(server) == 0)
        time.sleep(HELD_S)
        gate.open()
        assert running.result().text == "done"
    assert server.predict("slow", f"last{name}".encode()).text == "done"
    wait_for(lambda: has_run(server, f"last{name}"))
    assert f"unwanted{name}" not in server.model_log


def test_a_client_that_disconnects_at_once_takes_back_what_it_sent(server: RunningServer, gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(server.predict, "slow", f"occupied {gate}".encode())
        gate.wait_until_reached()
        ports = []
        for number in range(20):
            unwanted = connect(server, b"hasty%d" % number, ("1.1", "1.0")[number % 2])
            ports.append(unwanted.getsockname()[1])
            if number % 4 > 1:  # with a reset
                unwanted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            unwanted.close()
        wait_for(lambda: not open_connections(server, ports) and waiting(server) == 0)
        time.sleep(HELD_S)
        gate.open()
        assert running.result().text == "done"
    assert server.predict("slow", b"afterwards").text == "done"
    wait_for(lambda: has_run(server, "afterwards"))
    assert "hasty" not in server.model_log


def open_connections(server: RunningServer, ports: list[int]) -> list[int]:
    """Those of the clients' ports whose connection the server has not closed yet."""
    own = int(server.inference.rpartition(":")[2])
    connections = [each for each in psutil.net_connections("tcp") if each.laddr.port == own and each.raddr]
    return [
        each.raddr.port for each in connections if each.raddr.port in ports and each.status != "TIME_WAIT"
    ]


@pytest.mark.parametrize("path", ["/predictions/slow", "/jobs/slow", "/v2/models/slow/infer"])
@pytest.mark.parametrize("framing", ["Content-Length: 200000", "Transfer-Encoding: chunked"])
def test_a_request_that_is_cut_off_is_not_run(server: RunningServer, path: str, framing: str) -> None:
    host, port = server.inference.removeprefix("http://").split(":")
    name = f"half {framing[:3]}{path}".encode().replace(b" ", b"_")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {name.decode()}\r\n{framing}\r\n\r\n"
        chunked = b"%x\r\n%s\r\n" % (len(name), name)
        connection.sendall(head.encode() + (chunked if "chunked" in framing else name + b"_" * 100_000))
        time.sleep(0.2)
    # Nothing runs, and the whole request can be sent with the same key
    if path == "/jobs/slow":
        whole = server.submit("slow", b"whole", headers={"Idempotency-Key": name.decode()})
        assert server.result(whole).text == "done"
    last = f"next-{name.decode()}"
    assert server.predict("slow", last.encode()).text == "done"
    wait_for(lambda: has_run(server, last))
    assert f"ran {name.decode()}" not in server.model_log


def test_what_was_fetched_ahead_and_cancelled_is_not_run(server: RunningServer, gate: Gate) -> None:
    # Given a job that is fetched a moment before a row ends that takes longer than usual
    for number in range(12):
        server.predict("slow", f"usual{number} 0.1".encode())
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(server.predict, "slow", f"unusual {gate}".encode())
        gate.wait_until_reached()
        job = server.submit("slow", b"fetched")
        time.sleep(0.7)
        # When it is cancelled meanwhile
        assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "queued"
        assert httpx.delete(f"{server.inference}/jobs/{job}").json()["state"] == "cancelled"
        time.sleep(HELD_S)
        gate.open()
        assert running.result().text == "done"
    # Then it never runs
    assert server.predict("slow", b"end").text == "done"
    wait_for(lambda: has_run(server, "end"))
    assert "ran fetched" not in server.model_log


def test_a_queued_job_that_is_cancelled_never_runs(server: RunningServer, gate: Gate) -> None:
    first = server.submit("slow", f"before {gate}".encode())
    gate.wait_until_reached()
    job = server.submit("slow", b"cancelled")
    cancelled = httpx.delete(f"{server.inference}/jobs/{job}")
    time.sleep(HELD_S)
    gate.open()
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert server.result(first).text == "done"
    assert server.result(server.submit("slow", b"after")).text == "done"
    wait_for(lambda: has_run(server, "after"))
    assert "ran cancelled" not in server.model_log
    answer = server.result(job)
    assert (answer.status_code, answer.json()["message"]) == (
        409, f"Job {job} was cancelled; it has no result.",
    )  # fmt: skip


def test_the_result_of_a_running_job_that_is_cancelled_is_dropped(server: RunningServer, gate: Gate) -> None:
    job = server.submit("slow", f"running {gate}".encode())
    gate.wait_until_reached()
    assert httpx.delete(f"{server.inference}/jobs/{job}").json()["state"] == "cancelled"
    gate.open()
    assert server.result(server.submit("slow", b"next")).text == "done"
    assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "cancelled"


def test_whoever_waits_for_a_job_hears_that_it_was_cancelled(server: RunningServer, gate: Gate) -> None:
    long = server.submit("slow", f"long {gate}".encode())
    gate.wait_until_reached()
    job = server.submit("slow", b"awaited")
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(httpx.get, f"{server.inference}/jobs/{job}?wait=50")
        time.sleep(0.2)  # it waits by then, or hears it at once
        httpx.delete(f"{server.inference}/jobs/{job}")
        assert waiting.result().json()["state"] == "cancelled"
    assert httpx.get(f"{server.inference}/jobs/{long}").json()["state"] == "running"


def test_a_finished_job_cannot_be_cancelled(server: RunningServer) -> None:
    job = server.submit("slow", b"quick")
    assert server.result(job).text == "done"
    assert httpx.delete(f"{server.inference}/jobs/{job}").status_code == 409
    assert server.result(job).text == "done"


def test_an_unknown_job_cannot_be_cancelled(server: RunningServer) -> None:
    assert httpx.delete(f"{server.inference}/jobs/slow:unknown").status_code == 404


def test_a_request_that_is_late_is_answered_with_504_and_never_runs(
    server: RunningServer, gate: Gate
) -> None:
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(server.predict, "slow", f"busy {gate}".encode())
        gate.wait_until_reached()
        late = server.predict("slow", b"late", headers={"X-Request-Timeout": "0.2"})
        job = server.submit("slow", b"late-job", headers={"X-Request-Timeout": "0.2"})
        time.sleep(0.3)
        gate.open()
        assert running.result().text == "done"
    assert (late.status_code, late.json()["type"]) == (504, "RequestTimeoutException")
    assert server.result(job).status_code == 504
    assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "expired"
    # And one in time is run
    assert server.predict("slow", b"prompt", headers={"X-Request-Timeout": "60"}).text == "done"
    wait_for(lambda: has_run(server, "prompt"))
    assert "ran late" not in server.model_log


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan", "", "1e17", "1e308"])
def test_a_time_out_that_is_none_is_a_400_that_tells_what_is_one(server: RunningServer, given: str) -> None:
    for path in ("predictions", "jobs"):
        answer = httpx.post(f"{server.inference}/{path}/slow", headers={"X-Request-Timeout": given})
        assert answer.status_code == 400
        assert "must be a number of seconds above 0" in answer.json()["message"]


def test_a_request_beyond_its_deadline_leaves_the_queue_also_while_no_replica_runs(
    server: RunningServer,
) -> None:
    server.scale("slow", 0)
    try:
        job = server.submit("slow", b"never", headers={"X-Request-Timeout": "1"})
        state = f"{server.inference}/jobs/{job}"
        wait_for(lambda: httpx.get(state).json()["state"] == "expired", what="its end")
        assert waiting(server) == 0
    finally:
        server.scale("slow", 1)
    server.wait_until_ready("slow")
    assert server.predict("slow", b"after").status_code == 200
    assert not has_run(server, "never")


@pytest.mark.parametrize("path", ["predictions", "jobs"])
@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_an_interrupted_upload_leaves_nothing(server: RunningServer, path: str, framing: str) -> None:
    # Given what Redis has of the model
    before = kept(server)
    # When a client goes away in the middle of its body
    host, port = server.inference.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"POST /{path}/slow HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        connection.sendall(b"5\r\nhalf \r\n" if "chunked" in framing else b"half " * 10_000)
    # Then nothing of it is queued, kept or run
    assert server.predict("slow", b"whole").text == "done"
    wait_for(lambda: has_run(server, "whole"))
    assert waiting(server) == 0
    assert kept(server) == before
    assert not has_run(server, "half")


def kept(server: RunningServer) -> set[bytes]:
    """The keys of the model's jobs."""
    with redis.Redis.from_url(server.redis_url) as client:
        return {*client.keys("marq:{slow}:job:*"), *client.keys("marq:{slow}:parts:*")}
