"""Celery's own tools work on a marq cluster."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import handlers
import psutil
import pytest
from support import RunningServer, wait_for

CELERY = Path(sys.executable).with_name("celery")


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", handlers.ECHO, {"minWorkers": 2, "maxWorkers": 2})
    running: RunningServer = serve_models(store)
    running.wait_until_ready("echo", 2)
    return running


def celery(server: RunningServer, *arguments: str) -> Any:
    done = subprocess.run(
        [CELERY, "-A", "workers.app", *arguments, "--json"],
        env={**server.environment, "MARQ_REDIS_URL": server.redis_url},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def stopped_node(server: RunningServer) -> Iterator[None]:
    """The node does nothing meanwhile."""
    children = psutil.Process(server.process.pid).children()
    [node] = [child for child in children if child.cmdline()[-1:] == ["workers.node"]]
    node.suspend()
    try:
        yield
    finally:
        node.resume()


def test_inspect_ping_finds_the_pool(server: RunningServer) -> None:
    (name, answer), *others = celery(server, "inspect", "ping").items()
    assert not others
    assert name.startswith("echo-1.0@")
    assert answer == {"ok": "pong"}


def test_inspect_stats_lists_the_replicas_with_their_pids_and_devices(server: RunningServer) -> None:
    (stats,) = celery(server, "inspect", "stats").values()
    pool = stats["pool"]
    assert (pool["model"], pool["version"], pool["max-concurrency"]) == ("echo", "1.0", 2)
    assert sorted(pool["processes"]) == sorted(worker["pid"] for worker in server.workers("echo"))
    assert [replica["device"] for replica in pool["replicas"]] == ["cpu", "cpu"]
    password = urlsplit(server.redis_url).password
    assert password and password not in json.dumps(stats)


def test_control_grows_the_pool_until_the_node_brings_it_back_to_the_registry(server: RunningServer) -> None:
    with stopped_node(server):
        celery(server, "control", "pool_grow", "1")
        wait_for(lambda: len(server.workers("echo")) == 3, what="a third replica")
    wait_for(lambda: len(server.workers("echo")) == 2, what="the node to shrink the pool")


def test_a_task_in_the_queue_of_a_pool_fails_without_ending_the_pool(server: RunningServer) -> None:
    """Whoever is used to Celery calls a task of its own: it is logged, and the replicas stay."""
    before = sorted(worker["pid"] for worker in server.workers("echo"))
    command = [CELERY, "-A", "workers.app", "call", "--queue", "echo.1.0", "celery.backend_cleanup"]
    environment = {**server.environment, "MARQ_REDIS_URL": server.redis_url}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    logs = server.state_dir / "logs"

    def is_logged() -> bool:
        return any("pools run no Celery tasks" in log.read_text() for log in logs.glob("*.log"))

    wait_for(is_logged, 60, "the task to fail")
    assert server.predict("echo", b"x").status_code == 200
    assert sorted(worker["pid"] for worker in server.workers("echo")) == before
