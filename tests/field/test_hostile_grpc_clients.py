"""gRPC clients that do not end their messages: no gateway grows, and others are answered."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc_stubs
import handlers
import psutil
import pytest
from grpc_stubs import LARGE, WAIT_S, row
from half_sent_calls import HalfSentCalls
from ports import free_port
from support import RunningServer

pytestmark = pytest.mark.slow  # a server of its own
BUFFERED = 64 * 2**20  # max_buffered_bytes
GROWTH = 150 * 2**20  # bytes by which a gateway may grow
CONNECTIONS, CALLS, SIZE = 4, 30, 5_000_000  # together 600 MB


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path_factory: Any,
    port: int,
) -> RunningServer:  # fmt: skip
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", handlers.ECHO, {"minWorkers": 1, "maxWorkers": 1})
    running = start_server(
        store, ["echo.mar"], gateway_workers=1, max_buffered_bytes=BUFFERED, enable_grpc=True,
        grpc_inference_port=port, grpc_management_port=free_port(),
    )  # fmt: skip
    running.wait_until_ready("echo")
    return running


@pytest.fixture
def hostile(server: RunningServer, port: int) -> Iterator[list[HalfSentCalls]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(HalfSentCalls(port, CALLS, SIZE)))
            for _ in range(CONNECTIONS)
        ]


def connect(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=LARGE)


def size_of_gateway(server: RunningServer) -> int:
    children = psutil.Process(server.process.pid).children()
    (gateway,) = [child for child in children if child.cmdline()[-1:] == ["gateway"]]
    return int(gateway.memory_info().rss)


def test_messages_that_do_not_end_do_not_grow_a_gateway_and_others_are_answered(
    server: RunningServer, port: int, hostile: list[HalfSentCalls]
) -> None:
    before = size_of_gateway(server)
    with ThreadPoolExecutor(CONNECTIONS) as threads, connect(port) as channel:
        rpc = grpc_stubs.inference(channel)
        sending = [threads.submit(client.send_for, 3) for client in hostile]
        assert rpc.Predictions(row("echo", body=b"x"), timeout=WAIT_S).prediction == b"x"
        for each in sending:
            each.result()
        assert size_of_gateway(server) - before < GROWTH
        # Then others are answered while they are there
        for _ in range(5):
            assert rpc.Predictions(row("echo", body=b"x"), timeout=WAIT_S).prediction == b"x"


def test_a_message_that_does_not_fit_beside_others_waits_for_its_turn(
    server: RunningServer, port: int
) -> None:
    large = b"x" * SIZE
    with connect(port) as channel:
        rpc = grpc_stubs.inference(channel)
        calls = [rpc.Predictions.future(row("echo", body=large), timeout=WAIT_S) for _ in range(20)]
        assert all(call.result().prediction == large for call in calls)
