"""A stop: requests in flight are finished within its limit, others are refused, and do not run later."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis
import support
from gate import HOLD, Gate
from support import RunningServer, wait_for

HANDLER = (
    HOLD
    + """
def handle(data, context):
    if data is None:
        return None
    path, word = data[0]["body"].decode().split()
    with Path(f"{path}.runs").open("a") as runs:
        runs.write(f"{word}\\n")
    hold(path)
    return [word]
"""
)
ONE = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "responseTimeout": 600}


@pytest.fixture
def store(make_archive, tmp_path) -> Path:
    make_archive(tmp_path / "store", "holding", HANDLER, ONE)
    return tmp_path / "store"


def start(directory: Path, store: Path, stop_timeout: int) -> RunningServer:
    directory.mkdir(exist_ok=True)
    arguments = ["--disable-token-auth"]
    return support.start_server(
        directory, store, ["holding.mar"], arguments, {"stop_timeout": stop_timeout, "gateway_workers": 2}
    )


def answer_of_new_connection(server: RunningServer) -> bytes:
    """The raw answer to a health check."""
    address = urlsplit(server.inference)
    with socket.create_connection((address.hostname, address.port), 60) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_is_in_flight_is_finished_and_new_requests_are_refused(
    store: Path, tmp_path: Path, gate: Gate
) -> None:
    server = start(tmp_path / "server", store, 60)
    try:
        server.wait_until_ready("holding")
        with ThreadPoolExecutor(2) as threads:
            # Given one prediction that runs, and one that is queued behind it
            running = threads.submit(server.predict, "holding", f"{gate} first".encode())
            gate.wait_until_reached()
            queued = threads.submit(server.predict, "holding", f"{gate} second".encode())
            wait_for(lambda: _waiting(server) == 1, what="the second prediction")
            # When the terminal of the server ends
            server.process.send_signal(signal.SIGHUP)
            wait_for(
                lambda: "have 60 s to finish" in server.log.read_text(), what="the console", log=server.log
            )
            # Then new connections are refused
            refused = wait_for(lambda: _refusal(server), what="a refusal")
            head = refused.partition(b"\r\n\r\n")[0].lower()
            assert b"retry-after: " in head
            assert b"connection: close" in head
            assert b"The server is stopping." in refused
            # And both predictions are answered
            assert not running.done()
            gate.open()
            assert [running.result().text, queued.result().text] == ["first", "second"]
        assert server.process.wait(60) == 0
    finally:
        server.stop()


def _waiting(server: RunningServer) -> int:
    described = httpx.get(f"{server.management}/models/holding").json()[0]
    return int(described["jobQueueStatus"]["pendingRequests"])


def _refusal(server: RunningServer) -> bytes | None:
    answer = answer_of_new_connection(server)
    return answer if answer.startswith(b"HTTP/1.1 503") else None


@pytest.mark.slow
def test_a_gateway_that_stops_alone_leaves_new_connections_to_the_other_one(
    store: Path, tmp_path: Path, gate: Gate
) -> None:
    server = start(tmp_path / "server", store, 60)
    try:
        server.wait_until_ready("holding")
        with ThreadPoolExecutor(1) as threads:
            # Given a prediction that one of two gateways waits for
            running = threads.submit(server.predict, "holding", f"{gate} first".encode())
            gate.wait_until_reached()
            [busy] = [each for each in _gateways(server) if _clients(each, server)]
            idle = wait_for(lambda: _connection_to(busy, server), what="a connection to it")
            # When that one is to end
            busy.terminate()
            with idle:
                assert idle.recv(1) == b""
            # Then each new client is answered
            answers = [answer_of_new_connection(server).splitlines()[0] for _ in range(20)]
            assert answers == [b"HTTP/1.1 200 OK"] * 20
            # And so is the prediction; then there are two gateways again
            assert not running.done()
            gate.open()
            assert running.result().text == "first"
        wait_for(lambda: len(set(_gateways(server)) - {busy}) == 2, what="the next gateway", log=server.log)
    finally:
        server.stop()


def _gateways(server: RunningServer) -> list[psutil.Process]:
    found = psutil.Process(server.process.pid).children()
    alive = [each for each in found if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in alive if each.cmdline()[-1:] == ["gateway"]]


def _clients(gateway: psutil.Process, server: RunningServer) -> set[int]:
    """The ports of the clients that are connected to the inference address of a gateway."""
    found = gateway.net_connections("tcp")
    port = urlsplit(server.inference).port
    return {each.raddr.port for each in found if each.raddr and each.laddr.port == port}


def _connection_to(gateway: psutil.Process, server: RunningServer) -> socket.socket | None:
    """A connection on which the gateway has answered a request; None if another one has."""
    address = urlsplit(server.inference)
    connection = socket.create_connection((address.hostname, address.port), 60)
    connection.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = b""
    while not answer.rstrip().endswith(b"}"):
        answer += connection.recv(65536)
    if connection.getsockname()[1] in _clients(gateway, server):
        return connection
    connection.close()
    return None


@pytest.mark.slow
def test_predictions_that_are_refused_at_the_limit_do_not_run_after_the_restart(
    store: Path, tmp_path: Path, gate: Gate
) -> None:
    # Given a stop limit of a second, a prediction that runs for longer, and one behind it
    server = start(tmp_path / "server", store, 1)
    try:
        server.wait_until_ready("holding")
        with ThreadPoolExecutor(2) as threads:
            running = threads.submit(server.predict, "holding", f"{gate} first".encode())
            gate.wait_until_reached()
            queued = threads.submit(server.predict, "holding", f"{gate} second".encode())
            wait_for(lambda: _waiting(server) == 1, what="the second prediction")
            # When the server stops
            server.ask_to_stop()
            for answer in (running.result(), queued.result()):
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"]
        assert server.stop() == 0
    finally:
        server.stop()
    # Then a server that starts again runs neither
    gate.open()
    again = start(tmp_path / "server", store, 1)
    try:
        again.wait_until_ready("holding")
        assert again.predict("holding", f"{gate} third".encode()).text == "third"
    finally:
        again.stop()
    assert Path(f"{gate}.runs").read_text().split() == ["first", "third"]


@pytest.mark.slow
def test_a_stop_does_not_wait_for_answers_that_redis_refuses(store: Path, tmp_path: Path, gate: Gate) -> None:
    # Given a stop limit of ten minutes, a prediction that runs, and a Redis that refuses commands
    server = start(tmp_path / "server", store, 600)
    try:
        server.wait_until_ready("holding")
        with ThreadPoolExecutor(1) as threads, redis.Redis.from_url(server.redis_url) as client:
            running = threads.submit(server.predict, "holding", f"{gate} first".encode())
            gate.wait_until_reached()
            client.config_set("min-replicas-to-write", 1)
            # When the server stops
            server.ask_to_stop()
            # Then the client gets the reason
            answer = running.result()
            assert answer.status_code == 503, answer.text
            assert "The server is stopping. Redis fails: NOREPLICAS" in answer.json()["message"]
        # And the server ends long before its limit
        assert server.process.wait(120) == 0
    finally:
        server.stop()
    assert "stopping without the answers to 1 predictions: Redis fails: NOREPLICAS" in server.log.read_text()
    assert "does not wait for its running batches: Redis has failed for more than" in server.log.read_text()
