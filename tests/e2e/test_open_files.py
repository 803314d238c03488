"""A server that is started with few open files, as shells start it, and more clients than it can have."""

import contextlib
import socket

import handlers
import httpx
import pytest
import support
from support import RunningServer, wait_for

SOFT, HARD = 64, 256
CLIENTS = 2 * HARD
PING = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(make_archive, tmp_path_factory):
    directory, store = tmp_path_factory.mktemp("server"), tmp_path_factory.mktemp("store")
    make_archive(store, "echo", handlers.ECHO, {"minWorkers": 1, "maxWorkers": 1})
    limited = directory / "limited"
    limited.write_text(f'#!/bin/sh\nulimit -S -n {SOFT}\nulimit -H -n {HARD}\nexec {support.MARQ} "$@"\n')
    limited.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(support, "MARQ", limited)
        running = support.start_server(
            directory, store, "all", ["--disable-token-auth"], {"gateway_workers": 1}
        )
    yield running
    running.stop()


def connect(server: RunningServer) -> socket.socket:
    host, port = server.inference.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def ask(sock: socket.socket) -> bytes:
    """The answer, or what there is of it when the connection ends."""
    with contextlib.suppress(ConnectionError):
        sock.sendall(PING)
    received = b""
    with contextlib.suppress(ConnectionError):
        while not received.endswith(b"}\n") and (some := sock.recv(65536)):
            received += some
    return received


@pytest.mark.slow
def test_connections_up_to_the_hard_limit_are_served_and_those_beyond_it_told_why(server):
    server.wait_until_ready("echo")
    with contextlib.ExitStack() as stack:
        # Given more clients than the gateway may have files open
        clients = [stack.enter_context(connect(server)) for _ in range(CLIENTS)]
        # When they ask
        answers = [ask(client) for client in clients]
        # Then as many are served as the hard limit allows, but for what the gateway itself may need
        served = [c for c, answer in zip(clients, answers, strict=True) if answer.startswith(b"HTTP/1.1 200")]
        assert SOFT < len(served) < HARD
        # And the others are told
        refused = [answer for answer in answers if not answer.startswith(b"HTTP/1.1 200")]
        assert all(answer.startswith(b"HTTP/1.1 503") for answer in refused)
        assert b"Too many connections are open." in refused[-1]
        wait_for(lambda: "refusing connections" in server.log.read_text())
        assert server.log.read_text().count("refusing connections") == 1
        # And those that are connected are served on
        for client in served:
            assert ask(client).startswith(b"HTTP/1.1 200")
    # When clients go
    # Then new ones are served
    wait_for(lambda: ask_once(server).startswith(b"HTTP/1.1 200"), what="a free connection")
    assert httpx.get(f"{server.management}/models/echo").status_code == 200
    assert server.predict("echo", b"x").content == b"x"


def ask_once(server: RunningServer) -> bytes:
    with connect(server) as sock:
        return ask(sock)
