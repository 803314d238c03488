"""Clients that take their time, and a whole gateway process that gives them a second instead of a minute."""

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import certificates
import pytest
from ports import free_port
from support import wait_for
from thread_replica import ThreadReplica, make_spec

from marq.connections import clients
from marq.host import sockets as listen
from marq.queue.entries import Request
from marq.queue.replies.entries import Reply
from marq.registry.models import Registry

LIMIT_S = 1.0
RATE = 10  # min_body_rate
PATIENCE_S = 60.0  # so long a busy machine may take longer
LARGE = 200_000  # bytes: more than the short cut of predictions takes
LENGTH = rb"content-length: (\d+)(?:\r\n[^\r\n]+)*\r\n\r\n"

over_tls_too = pytest.mark.parametrize("gateway", ["http", "https"], indirect=True)


def sleep_or_measure(request: Request) -> Reply:
    """A handler that sleeps where it is told to, and tells the size of its input."""
    command, _, seconds = request.body[:100].partition(b" ")
    time.sleep(float(seconds) if command == b"sleep" else 0)
    return Reply(request.id, 200, b"%d" % len(request.body))


@dataclass
class Gateway:
    """A gateway process with a model `slow`."""

    scheme: str
    addresses: dict[str, Any]
    certificate: str

    def connect(self, plane: str = "inference") -> socket.socket:
        sock = socket.create_connection(self.addresses[plane], timeout=60)
        if self.scheme == "http":
            return sock
        context = ssl.create_default_context(cafile=self.certificate)
        return context.wrap_socket(sock, server_hostname="localhost")


@pytest.fixture(scope="module")
def gateway(request, _redis, tmp_path_factory) -> Iterator[Gateway]:
    scheme, directory = getattr(request, "param", "http"), tmp_path_factory.mktemp("gateway")
    spec, pair = make_spec("slow", min_workers=1, max_workers=1), certificates.make(directory)
    with clients.client(_redis.url) as client:
        client.flushall()
        Registry(client).register(spec)
    where = {name: f"{scheme}://127.0.0.1:{free_port()}" for name in ("inference", "management")}
    sockets = {name: listen.listen(address, name) for name, address in where.items()}
    settings = {
        "MARQ_SLOW_CLIENT_TIMEOUT": f"{LIMIT_S:g}", "MARQ_MIN_BODY_RATE": str(RATE),
        "MARQ_REDIS_URL": _redis.url, "MARQ_STATE_DIR": str(directory), "MARQ_DISABLE_TOKEN_AUTH": "true",
        "MARQ_INFERENCE_ADDRESS": where["inference"], "MARQ_MANAGEMENT_ADDRESS": where["management"],
        "MARQ_PRIVATE_KEY_FILE": str(pair.key), "MARQ_CERTIFICATE_FILE": str(pair.certificate),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], env={**os.environ, **settings, **listen.environment(sockets)},
        pass_fds=[sock.fileno() for sock in sockets.values()], cwd=directory,
    )  # fmt: skip
    replica = ThreadReplica(_redis.url, spec, sleep_or_measure)
    addresses = {name: sock.getsockname() for name, sock in sockets.items()}
    gateway = Gateway(scheme, addresses, str(pair.certificate))
    try:
        ping = head(0, "/ping", "GET")
        wait_for(lambda: process.poll() is None and b" 200 " in ask(gateway.connect(), b"", ping))
        yield gateway
    finally:
        replica.stop()
        process.terminate()
        process.wait(60)
        for sock in sockets.values():
            sock.close()


@pytest.fixture
def connect(gateway) -> Iterator[Callable[..., socket.socket]]:
    """Connections that end with the test: connect("management")."""
    with contextlib.ExitStack() as stack:
        yield lambda plane="inference": stack.enter_context(gateway.connect(plane))


def head(size: int, path: str = "/predictions/slow", method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()


def ask(sock: socket.socket, body: bytes, request_head: bytes = b"") -> bytes:
    """Sends a request; returns the whole answer."""
    sock.sendall((request_head or head(len(body))) + body)
    return receive(sock)


def receive(sock: socket.socket) -> bytes:
    received = b""
    while not (match := re.search(LENGTH, received)) or (len(received) < match.end() + int(match[1])):
        some = sock.recv(65536)
        assert some, f"the connection has ended after {received!r}"
        received += some
    return received


def send_until_ended(sock: socket.socket, pieces: Iterator[bytes]) -> tuple[bytes, float]:
    """Sends a piece now and then, until the gateway ends the connection: what it said, and when."""
    end, received = time.monotonic() + LIMIT_S + PATIENCE_S, b""
    sock.settimeout(0.1)
    while time.monotonic() < end:
        try:
            if piece := next(pieces, b""):
                sock.sendall(piece)
            some = sock.recv(65536)
        except TimeoutError:
            continue
        except OSError:  # it went on sending after the end
            some = b""
        if not some:
            return received, time.monotonic()
        received += some
    raise AssertionError(f"the connection is still open; received: {received!r}")


def drops(piece: bytes) -> Iterator[bytes]:
    """A piece more often than a pause in a body may last, but less often than `min_body_rate` demands."""
    last = -LIMIT_S
    while True:
        is_due = time.monotonic() - last >= LIMIT_S / 4
        last = time.monotonic() if is_due else last
        yield piece if is_due else b""


def is_told_to_hurry(answer: bytes) -> bool:
    top, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)
    return (
        top.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        and b"connection: close" in top
        and (error["code"], error["type"]) == (408, "RequestTimeoutException")
        and f"within {LIMIT_S:g} s" in error["message"]
    )


@pytest.mark.parametrize("plane", ["inference", "management"])
def test_a_client_that_says_nothing_is_ended_without_a_word(connect, plane):
    began = time.monotonic()
    said, ended = send_until_ended(connect(plane), iter(()))
    assert said == b""
    assert ended - began >= LIMIT_S


@over_tls_too
@pytest.mark.parametrize("plane", ["inference", "management"])
def test_headers_that_come_byte_by_byte_are_cut_off(connect, plane):
    began = time.monotonic()
    sock = connect(plane)
    sock.sendall(b"POST /predictions/slow HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    said, ended = send_until_ended(sock, repeat(b"x"))
    assert is_told_to_hurry(said)
    assert ended - began >= LIMIT_S


def test_so_are_those_of_a_later_request_of_the_connection(connect):
    sock = connect()
    for size in (5, LARGE):  # by the short cut and by the endpoint
        assert ask(sock, b"x" * size).endswith(b"%d" % size)
    said, _ = send_until_ended(sock, iter([b"GET /ping HTTP/1.1\r\n"]))
    assert is_told_to_hurry(said)


@over_tls_too
@pytest.mark.parametrize(
    ("plane", "request_head"),
    [
        ("inference", head(100)),
        ("inference", head(LARGE)),
        ("inference", head(100, "/jobs/slow")),
        ("inference", head(100).replace(b"Content-Length: 100", b"Transfer-Encoding: chunked")),
        ("management", head(100, "/dead-letters/slow/replay")),
    ],
)  # fmt: skip
def test_a_body_of_which_nothing_more_comes_is_given_up(connect, plane, request_head):
    sock = connect(plane)
    began = time.monotonic()
    sock.sendall(request_head + b"1")  # in one piece, so that all looks find the same
    said, ended = send_until_ended(sock, iter([]))
    assert is_told_to_hurry(said)
    assert ended - began >= LIMIT_S


@over_tls_too
@pytest.mark.parametrize(
    ("plane", "request_head"),
    [
        ("inference", head(1000)),
        ("inference", head(LARGE)),
        ("inference", head(1000, "/jobs/slow")),
        ("inference", head(1000).replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked")),
        ("management", head(1000, "/dead-letters/slow/replay")),
    ],
)  # fmt: skip
def test_a_body_that_drips_is_given_up(connect, plane, request_head):
    piece = b"1\r\nx\r\n" if b"chunked" in request_head else b"x"
    message = ""
    for _ in range(10):  # a machine so busy that nothing is sent for LIMIT_S is told of the pause instead
        sock = connect(plane)
        began = time.monotonic()
        sock.sendall(request_head)
        said, ended = send_until_ended(sock, drops(piece))
        top, _, body = said.partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert ended - began >= LIMIT_S
        message = json.loads(body)["message"]
        if not is_told_to_hurry(said):
            break
    assert message == f"The request's body arrives more slowly than {RATE} bytes/s (min_body_rate)."


def test_what_is_answered_before_its_end_cannot_be_sent_for_ever(connect):
    sock = connect()
    assert b"404" in ask(sock, b"", head(0, "/predictions/nobody"))
    sock.sendall(head(LARGE, "/predictions/nobody"))
    assert b"404" in receive(sock)
    said, _ = send_until_ended(sock, repeat(b"x"))
    assert said == b""


@pytest.mark.slow
@over_tls_too
@pytest.mark.parametrize(("size", "piece"), [(1200, 100), (LARGE, LARGE // 12)])
def test_a_slow_but_steady_upload_is_taken(connect, size, piece):
    sock = connect()
    sock.sendall(head(size))
    for start in range(0, size, piece):
        time.sleep(LIMIT_S / 8)
        sock.sendall(b"x" * min(piece, size - start))
    assert receive(sock).endswith(b"%d" % size)


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.slow
def test_a_prediction_may_take_long(connect, size):
    command = b"sleep %.1f " % (LIMIT_S * 2.5)
    answer = ask(connect(), command.ljust(size))
    assert answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.slow
def test_the_next_request_may_be_incomplete_while_a_prediction_runs(connect):
    sock = connect()
    body = b"sleep %.1f" % (LIMIT_S * 2.5)
    sock.sendall(head(len(body)) + body + b"POST /predictions")
    assert receive(sock).startswith(b"HTTP/1.1 200 OK")
    sock.sendall(b"/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxx")
    assert receive(sock).endswith(b"\r\n\r\n2")


@pytest.mark.slow
def test_an_idle_connection_is_kept(connect):
    sock = connect()
    assert ask(sock, b"12345").endswith(b"5")
    time.sleep(LIMIT_S * 2.5)
    assert ask(sock, b"1234567").endswith(b"7")
