"""Two servers, each with gateways and a node, on one Redis and one host."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest
import redis
from gate import HOLD, Gate, closed
from support import MARQ, RunningServer, wait_for

from marq import keys
from marq.registry.reports import PoolReport
from workers.pool.celery_pool import RECOVERY_EVERY_S

JOBS = 8
HANDLER = (
    HOLD
    + """
def handle(data, context):
    if data is None:
        return None
    path, number = data[0]["body"].decode().split()
    with Path(f"{path}.runs").open("a") as runs:
        runs.write(f"{number}\\n")
    hold(path)
    return [b"done"]
"""
)


@pytest.fixture(scope="module")
def store(make_archive, tmp_path_factory) -> Path:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "holding", HANDLER, {"minWorkers": JOBS, "maxWorkers": JOBS, "batchSize": 1})
    return store


@pytest.fixture(scope="module")
def server(start_server, store) -> RunningServer:
    running: RunningServer = start_server(store)
    return running


@pytest.fixture(scope="module")
def second(server, start_server, store) -> RunningServer:
    running: RunningServer = start_server(store, redis_url=server.redis_url)
    return running


def node_names(server: RunningServer) -> list[str]:
    with redis.Redis.from_url(server.redis_url) as client:
        return [name.decode() for name in client.zrange(keys.NODES, 0, -1)]


def node(server: RunningServer, state_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [MARQ, "node", "--redis-url", server.redis_url, "--state-dir", state_dir, *options]
    return subprocess.run(command, capture_output=True, text=True, env=server.environment, timeout=60)


def wait_for_looks_at_lost_replicas(server: RunningServer) -> None:
    """Returns when each pool has looked for lost replicas since, by its own heartbeat."""
    with redis.Redis.from_url(server.redis_url) as client:
        since = client.time()[0] + 2 * RECOVERY_EVERY_S

        def looked() -> bool:
            reports = client.hgetall(keys.pools("holding", "1.0")).values()
            return all(PoolReport.from_json(report).reported > since for report in reports)

        wait_for(looked, what="the pools' looks at lost replicas")


@pytest.mark.slow
def test_a_second_node_of_a_name_refuses_to_start_and_names_the_first(server, tmp_path):
    [name] = wait_for(lambda: node_names(server), what="the node")
    refused = node(server, tmp_path / "second", "--name", name)
    assert refused.returncode == 1
    assert f'A node named "{name}" runs already: process ' in refused.stdout + refused.stderr
    assert node_names(server) == [name]


@pytest.mark.slow
def test_a_second_server_with_a_node_of_the_name_refuses_to_start(server, store, tmp_path):
    [name] = wait_for(lambda: node_names(server), what="the node")
    variables = {"MARQ_NODE": name, "MARQ_STATE_DIR": str(tmp_path), "MARQ_REDIS_URL": server.redis_url}
    refused = subprocess.run(
        [MARQ, "start", "--model-store", store, "--models", "all", "--disable-token-auth"],
        capture_output=True, text=True, env={**server.environment, **variables}, cwd=tmp_path, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 1
    assert f'A node named "{name}" runs already: process ' in refused.stderr


@pytest.mark.slow
def test_each_job_runs_once_however_long_it_takes(server, second, tmp_path):
    # Given two nodes of one host with names of their own, that share the replicas
    server.wait_until_ready("holding", JOBS)
    wait_for(lambda: len(node_names(server)) == 2, what="the second node")
    wait_for(lambda: len({worker["node"] for worker in server.workers("holding")}) == 2, what="both nodes")
    server.wait_until_ready("holding", JOBS)
    with closed(tmp_path / "gate") as gate:
        # When each replica runs a job while pools look for lost replicas
        jobs = [
            (server if number % 2 else second).submit("holding", f"{gate} {number}".encode())
            for number in range(JOBS)
        ]
        gate.wait_until_reached(JOBS)
        wait_for_looks_at_lost_replicas(server)
        gate.open()
        # Then each has run once
        assert [server.result(job).content for job in jobs] == [b"done"] * JOBS
    assert Counter(runs_of(gate)) == {str(number): 1 for number in range(JOBS)}


def runs_of(gate: Gate) -> list[str]:
    return Path(f"{gate}.runs").read_text().split()
