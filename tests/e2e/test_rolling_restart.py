"""Replicas, pools and nodes are restarted one after the other under load, and no client notices."""

import contextlib
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from support import MARQ, RunningServer, wait_for

pytestmark = pytest.mark.slow

HANDLER = """
import time


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    time.sleep(0.01)
    return [bytes(row["body"]) for row in data]
"""
CLIENTS, PAUSE_S = 4, 0.02
READY_S = 40


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", HANDLER, {"minWorkers": 2, "maxWorkers": 2})
    running: RunningServer = start_server(store)
    running.wait_until_ready("echo", 2)
    return running


@pytest.fixture
def second(server: RunningServer, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a node as on another host, as often as it is called."""
    with contextlib.ExitStack() as stack, (tmp_path / "second.log").open("ab") as log:

        def start() -> subprocess.Popen[bytes]:
            command = [MARQ, "node", "--redis-url", server.redis_url, "--name", "second"]
            node = subprocess.Popen(
                [*command, "--state-dir", tmp_path / "second"],
                stdout=log, stderr=log, env=server.environment,
            )  # fmt: skip
            stack.callback(node.wait)
            stack.callback(node.terminate)
            return node

        yield start


@contextlib.contextmanager
def load(server: RunningServer) -> Iterator[Counter[str]]:
    """Predictions all the time; counts the answers that are not right by what they are."""
    ended, answers = threading.Event(), Counter[str]()

    def ask(client: int) -> None:
        with httpx.Client(base_url=server.inference, timeout=60) as http:
            number = 0
            while not ended.wait(PAUSE_S):
                body = f"{client} {number}".encode()
                answer = http.post("/predictions/echo", content=body)
                answers["right" if answer.content == body else f"{answer.status_code} {answer.text}"] += 1
                number += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def nodes_that_serve(server: RunningServer) -> list[str]:
    return sorted(worker["node"] for worker in server.workers("echo") if worker["status"] == "READY")


def children(process: psutil.Process, word: str) -> list[psutil.Process]:
    return [child for child in process.children() if word in child.cmdline()]


def test_no_request_fails_while_everything_is_restarted(server: RunningServer, second) -> None:
    supervisor = psutil.Process(server.process.pid)
    other = second()
    wait_for(lambda: len(set(nodes_that_serve(server))) == 2, READY_S)
    both = nodes_that_serve(server)
    with load(server) as answers:
        # replicas
        before = {worker["pid"] for worker in server.workers("echo")}
        assert server.marq("reload", "echo").returncode == 0
        wait_for(lambda: not before & {worker["pid"] for worker in server.workers("echo")}, READY_S)
        # the pool of one node
        [node] = children(supervisor, "workers.node")
        [pool] = children(node, "workers.pool")
        pool.send_signal(signal.SIGTERM)
        wait_for(lambda: not pool.is_running() and nodes_that_serve(server) == both, READY_S)
        # one node, which is started again
        other.terminate()
        assert other.wait(READY_S) == 0
        wait_for(lambda: len(nodes_that_serve(server)) == 2, READY_S)
        other = second()
        wait_for(lambda: nodes_that_serve(server) == both, READY_S)
        # and the other one, which the supervisor starts again
        node.send_signal(signal.SIGTERM)
        wait_for(lambda: not node.is_running() and nodes_that_serve(server) == both, READY_S)
        time.sleep(0.5)
    assert answers.pop("right") > 100
    assert not answers
