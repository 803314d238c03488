"""Clients that send without end, or do not read: they are answered or cut off, and no gateway grows."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support import RunningServer, wait_for

HANDLER = """
import time
from pathlib import Path


class Handler:
    def initialize(self, context):
        while Path("{gate}").exists():
            time.sleep(0.05)

    def handle(self, data, context):
        return [b"x" * int(bytes(row.get("body") or b"1")) for row in data]
"""
MANY = 40 * 2**20  # bytes: much more than any limit
IDLE_S = 8  # slow_client_timeout
BUFFERED = 16 * 2**20  # max_buffered_bytes
GROWTH = 60 * 2**20  # bytes by which a gateway may grow
PLANES = ("inference", "management", "metrics")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: Any) -> Path:
    """While this file is there, new replicas load and load."""
    path: Path = tmp_path_factory.mktemp("gate") / "closed"
    return path


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path_factory: Any,
    gate: Path,
) -> RunningServer:  # fmt: skip
    store = tmp_path_factory.mktemp("store")
    source = HANDLER.replace("{gate}", str(gate))
    for name in ("m", "n"):
        make_archive(store, name, source, {"minWorkers": 1, "maxWorkers": 1, "startupTimeout": 300})
    running = start_server(
        store,
        ["m.mar", "n.mar"],
        gateway_workers=1,
        enable_model_api=True,
        slow_client_timeout=IDLE_S,
        max_buffered_bytes=BUFFERED,
        job_queue_size=1000,
    )
    for name in ("m", "n"):
        running.wait_until_ready(name)
    return running


@pytest.fixture(autouse=True)
def goes_on(server: RunningServer) -> Iterator[None]:
    """After each client the models answer, and the gateway is still the same process."""
    before = gateway(server).pid
    yield
    assert gateway(server).pid == before
    assert [server.predict(name, b"3").text for name in ("m", "n")] == ["xxx", "xxx"]


def gateway(server: RunningServer) -> psutil.Process:
    children = psutil.Process(server.process.pid).children(recursive=True)
    (found,) = [child for child in children if "gateway" in command(child)]
    return found


def command(process: psutil.Process) -> list[str]:
    """Empty for a process that has just ended."""
    try:
        found: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return found


def connect(server: RunningServer, plane: str = "inference") -> socket.socket:
    host, port = getattr(server, plane).removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def send(client: socket.socket, pieces: Iterator[bytes], most: int = MANY) -> bytes:
    """Sends until the server answers or ends the connection; the answer."""
    answers: list[bytes] = []
    reading = threading.Thread(target=lambda: answers.append(read(client)))
    reading.start()
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most and not answers:
            sent += client.send(next(pieces))
    if sent >= most:
        client.shutdown(socket.SHUT_RDWR)
    reading.join()
    assert sent < most, "the server takes it all"
    return answers[0]


def read(client: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    received = b""
    with contextlib.suppress(OSError):
        while data := client.recv(65536):
            received += data
    return received


def status_of(answer: bytes) -> int:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    status = int(head.split()[1])
    assert json.loads(body)["code"] == status
    return status


def head(path: str = "/predictions/m", *headers: str, method: str = "POST") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *headers, "", "")).encode()


CHUNKED = head("/predictions/m", "Transfer-Encoding: chunked")
START = b"POST /predictions/m HTTP/1.1\r\nHost: x\r\n"
ENDLESS = {
    "headers": (431, chain([START], repeat(b"x: " + b"y" * 1000 + b"\r\n"))),
    "tiny headers": (431, chain([START], repeat(b"x:\r\n" * 1000))),
    "one header": (431, chain([START + b"x: "], repeat(b"y" * 65536))),
    "one header's name": (431, chain([START], repeat(b"y" * 65536))),
    "a URL": (414, chain([b"GET /"], repeat(b"y" * 65536))),
    "trailers": (413, chain([CHUNKED + b"1\r\n5\r\n0\r\n"], repeat(b"x: " + b"y" * 1000 + b"\r\n"))),
    "one trailer": (413, chain([CHUNKED + b"1\r\n5\r\n0\r\nx: "], repeat(b"y" * 65536))),
    "chunk extensions": (413, chain([CHUNKED + b"1;"], repeat(b"a=b;" * 1000))),
    "chunks with extensions": (413, chain([CHUNKED], repeat(b"1;" + b"y" * 1000 + b"\r\n5\r\n"))),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_comes_without_end_is_refused(server: RunningServer, what: str) -> None:
    status, pieces = ENDLESS[what]
    with connect(server) as client:
        answer = send(client, pieces)
    assert int(answer.split()[1]) == status


@pytest.mark.parametrize("plane", PLANES)
def test_each_address_has_the_same_limits(server: RunningServer, plane: str) -> None:
    for request, status in (
        (head("/ping?" + "x" * 20_000, method="GET"), 414),
        (head("/ping", "x: " + "y" * 70_000, method="GET"), 431),
        (head("/ping", *["x: y"] * 300, method="GET"), 431),
    ):
        with connect(server, plane) as client:
            client.sendall(request)
            assert status_of(read(client)) == status


def test_what_clients_of_torchserve_send_is_taken(server: RunningServer) -> None:
    large = {"cookie": "c" * 30_000, **{f"x-{number}": "y" * 100 for number in range(100)}}
    assert server.predict("m", b"3", headers=large).text == "xxx"
    assert httpx.get(f"{server.inference}/ping?{'x' * 12_000}").status_code == 200


def test_trailers_do_not_become_headers_and_the_connection_goes_on(server: RunningServer) -> None:
    with connect(server) as client:
        for _ in range(2):
            client.sendall(CHUNKED + b"1\r\n3\r\n0\r\nX-Trailer: a\r\n\r\n")
            received = b""
            while not received.endswith(b"\r\n\r\nxxx"):
                data = client.recv(65536)
                assert data, received
                received += data


def test_requests_before_a_bad_one_are_answered_first(server: RunningServer) -> None:
    with connect(server) as client:
        good = head("/predictions/m", "Content-Length: 1") + b"3"
        client.sendall(good + good + b"x" * 5 + b" nonsense\r\n\r\n")
        received = read(client)
    assert (received.count(b"HTTP/1.1 200 OK"), received.count(b"HTTP/1.1 ")) == (2, 2)
    assert received.endswith(b"xxx")


def growth(server: RunningServer, attack: Callable[[], None]) -> int:
    """By how many bytes the gateway grows during an attack, at most."""
    process, done = gateway(server), threading.Event()
    least = largest = process.memory_info().rss

    def look() -> None:
        nonlocal largest
        while not done.wait(0.05):
            largest = max(largest, process.memory_info().rss)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        attack()
    finally:
        done.set()
        watching.join()
    return max(largest, process.memory_info().rss) - least


def test_connections_that_send_headers_without_end_do_not_grow_a_gateway(server: RunningServer) -> None:
    def attack() -> None:
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
            clients = [stack.enter_context(connect(server)) for _ in range(8)]
            pieces = [chain([START], repeat(b"x: " + b"y" * 10_000 + b"\r\n")) for _ in clients]
            assert {status_of(answer) for answer in pool.map(send, clients, pieces)} == {431}

    assert growth(server, attack) < GROWTH


def test_pipelined_requests_do_not_grow_a_gateway(server: RunningServer) -> None:
    def attack() -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(server)) for _ in range(20)]
            for client in clients:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    for _ in range(10):
                        client.send(b"GET / HTTP/1.1\r\n\r\n" * 10_000)
            for client in clients:
                client.settimeout(60)
                assert read(client).startswith(b"HTTP/1.1 ")

    assert growth(server, attack) < GROWTH


@pytest.mark.parametrize("headers", [(), ("X-Request-Timeout: 100",)], ids=["fast path", "ASGI"])
def test_answers_that_a_client_does_not_read_do_not_grow_a_gateway(
    server: RunningServer, headers: tuple[str, ...]
) -> None:
    order = head("/predictions/m", "Content-Length: 7", *headers) + b"2000000"

    def attack() -> None:
        with contextlib.closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(2)
            client.connect(connect_to(server))
            for _ in range(60):
                try:
                    client.sendall(order)
                except OSError:
                    break
                wait_a_moment(server)

    assert growth(server, attack) < GROWTH


def test_answers_that_many_clients_do_not_read_do_not_grow_a_gateway(server: RunningServer) -> None:
    order = head("/predictions/m", "Content-Length: 7") + b"6000000"

    def attack() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                client = stack.enter_context(contextlib.closing(socket.socket()))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(120)
                client.connect(connect_to(server))
                client.sendall(order)
                assert client.recv(9) == b"HTTP/1.1 "

    assert growth(server, attack) < GROWTH


@pytest.mark.slow
def test_uploads_that_many_clients_do_not_end_do_not_grow_a_gateway(server: RunningServer) -> None:
    def hold(client: socket.socket) -> None:
        client.sendall(head("/predictions/m", "Content-Length: 6000000"))
        for _ in range(50):
            client.sendall(b"x" * 100_000)

    def attack() -> None:
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(10) as pool:
            clients = [stack.enter_context(connect(server)) for _ in range(40)]
            list(pool.map(hold, clients))
            answers = [answer.split()[1] for answer in pool.map(socket.socket.recv, clients, repeat(65536))]
        assert set(answers) <= {b"503", b"408"}  # too many at the same time; the others do not go on

    assert growth(server, attack) < GROWTH


def connect_to(server: RunningServer) -> tuple[str, int]:
    host, port = server.inference.removeprefix("http://").split(":")
    return host, int(port)


def wait_a_moment(server: RunningServer) -> None:
    """As long as the model takes for another answer."""
    server.predict("m", b"1")


@pytest.mark.slow
def test_a_client_that_does_not_read_its_answer_loses_its_connection(server: RunningServer) -> None:
    with contextlib.closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(120)
        client.connect(connect_to(server))
        client.sendall(head("/predictions/m", "Content-Length: 7") + b"6000000")
        ours = client.getsockname()[1]

        def is_gone() -> bool:
            return not any(
                each.raddr and each.raddr.port == ours and each.status == psutil.CONN_ESTABLISHED
                for each in gateway(server).net_connections()
            )

        assert client.recv(9) == b"HTTP/1.1 "
        wait_for(is_gone, 120)


FORM = {"content-type": "application/x-www-form-urlencoded"}
PARTS = {"content-type": "multipart/form-data; boundary=B"}
PART = b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'


@pytest.mark.parametrize(
    ("headers", "body"),
    [(FORM, b"a&" * 3_000_000), (FORM, b"a=%41&" * 1_000_000), (PARTS, PART % (b"a", b"b") * 100_000)],
    ids=["pairs", "pairs with values", "parts"],
)
@pytest.mark.parametrize("path", ["/invocations", "/predictions/m"])  # refused by gateway and replica
def test_a_form_of_many_fields_is_refused_and_nobody_waits_for_it(
    server: RunningServer, path: str, headers: dict[str, str], body: bytes
) -> None:
    answer = httpx.post(server.inference + path, content=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (413, 413)
    assert "max_form_fields" in answer.json()["message"]
    assert ("use -T" in answer.json()["message"]) is (headers is FORM)  # what curl's users can do


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (FORM, b"model_name=n&x=" + b"%41" * 2_000_000),
        (FORM, b"%41" * 1_000 + b"=1&model_name=n"),
        (PARTS, PART % (b"model_name", b"n") + PART % (b"x", b"y" * 6_000_000) + b"--B--\r\n"),
    ],
    ids=["a long value", "a long name", "a large part"],
)
def test_a_large_form_runs_the_model_that_it_names(
    server: RunningServer, headers: dict[str, str], body: bytes
) -> None:
    answer = httpx.post(f"{server.inference}/invocations", content=body, headers=headers, timeout=60)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"[" * 500_000, 400), (b'{"a":' * 100_000, 400), (b"{" + b" " * 2_000_000 + b"}", 413)],
    ids=["brackets", "objects", "2 MB"],
)
@pytest.mark.parametrize("path", ["/models", "/dead-letters/m/replay"])
def test_a_body_of_the_management_api_is_small_and_flat(
    server: RunningServer, path: str, body: bytes, status: int
) -> None:
    kind = {"content-type": "application/json"}
    answer = httpx.post(server.management + path, content=body, headers=kind, timeout=60)
    assert answer.status_code in (status, 422 if "dead" in path and status == 400 else status)


def test_health_is_answered_while_many_requests_wait_for_replicas(server: RunningServer, gate: Path) -> None:
    gate.touch()
    scale = f"{server.management}/models/n?min_worker=2&max_worker=2&synchronous=true"
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(httpx.put, scale, timeout=300) for _ in range(60)]
        try:
            wait_for(lambda: len(server.workers("n")) == 2, 60)
            for url in (
                f"{server.inference}/ping", f"{server.inference}/v2/health/live",
                f"{server.inference}/v2/health/ready", f"{server.management}/models",
                f"{server.management}/models/n", f"{server.metrics}/metrics",
            ):  # fmt: skip
                assert httpx.get(url, timeout=60).status_code == 200
            assert not any(each.done() for each in waiting), "health was answered after the wait"
        finally:
            gate.unlink()
        assert {each.result().status_code for each in waiting} == {200}
