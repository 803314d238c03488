"""Versions whose replicas follow the queue: from none to as many as are needed, and back, without a loss."""

import logging
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import redis
from gate import HOLD
from support import MARQ, RunningServer, wait_for

from marq.client import Client

ECHO = """
def handle(data, context):
    return data and [bytes(row["body"]) for row in data]
"""
SLOW = """
import os
import time
from pathlib import Path


def handle(data, context):
    if data is None:
        return None
    time.sleep(0.02 * len(data))
    with Path({runs!r}).open("a") as runs:
        runs.write("".join(str(row["body"]) + "\\n" for row in data))
    return ["done"] * len(data)
"""
log = logging.getLogger(__name__)

ROW_S, ROWS, MOST = 0.02, 5000, 4


def sizes(server: RunningServer, model: str) -> tuple[int, int]:
    """(replicas that are ready, replicas that there are to be)."""
    [described] = httpx.get(f"{server.management}/models/{model}").json()
    ready = sum(worker["status"] == "READY" for worker in described["workers"])
    return ready, described["scaling"]["wanted"]


# a version that rests


@pytest.fixture(scope="module")
def resting(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "rests", ECHO, {"minWorkers": 0, "maxWorkers": 2, "idleTimeoutSec": 1})
    server: RunningServer = serve_models(store)
    return server


def test_the_first_request_starts_a_replica_and_waits_for_it(resting):
    assert sizes(resting, "rests") == (0, 0)
    assert resting.predict("rests", b"first").content == b"first"


def test_it_rests_again_and_says_so(resting):
    wait_for(lambda: sizes(resting, "rests") == (0, 0), what="the rest", log=resting.log)
    wait_for(lambda: not resting.workers("rests"), what="the end of its pool", log=resting.log)
    status = resting.command("status").stdout
    assert "resting" in status
    [described] = httpx.get(f"{resting.management}/models/rests").json()
    assert described["scaling"]["reason"].startswith("no request has come for idleTimeoutSec (")
    assert httpx.get(f"{resting.inference}/v2/models/rests/ready").json()["ready"] is True


def test_a_job_wakes_it_as_well(resting):
    wait_for(lambda: sizes(resting, "rests") == (0, 0), what="the rest", log=resting.log)
    assert resting.result(resting.submit("rests", b"job")).content == b"job"


def test_a_request_waits_no_longer_than_its_deadline(resting):
    wait_for(lambda: sizes(resting, "rests") == (0, 0), what="the rest", log=resting.log)
    late = resting.predict("rests", b"late", headers={"X-Request-Timeout": "0.05"})
    assert late.status_code == 504


def test_without_a_rest_a_size_of_zero_refuses_requests_as_before(resting):
    url = f"{resting.management}/models/rests"
    httpx.put(f"{url}?min_worker=0&max_worker=0&synchronous=true", timeout=60).raise_for_status()
    assert "has no worker to serve inference request" in resting.predict("rests", b"x").json()["message"]
    [described] = httpx.get(url).json()
    assert "scaling" not in described


# sequences


SUMS = f"""{HOLD}
def handle(data, context):
    for row in data or ():
        hold(bytes(row["body"]).decode())
    return data and ["done"] * len(data)
"""


@pytest.mark.slow
def test_it_grows_when_requests_of_sequences_wait_and_the_new_replica_takes_new_sequences(
    start_server, make_archive, tmp_path, gate
):
    config = {
        "minWorkers": 1, "maxWorkers": 2, "batchSize": 1, "sequenceBatching": True,
        "sequenceMaxIdleMSec": 600_000, "maxNumSequence": 100,
    }  # fmt: skip
    make_archive(tmp_path / "store", "sums", SUMS, config)
    server = start_server(tmp_path / "store")
    server.wait_until_ready("sums")

    def begin(number: int) -> int:
        headers = {"ts_request_sequence_id": f"sequence-{number}"}
        return server.predict("sums", str(gate).encode(), headers=headers).status_code

    # Given one request that runs, and nine that wait in sequences of their own
    with ThreadPoolExecutor(20) as pool:
        begun = [pool.submit(begin, number) for number in range(10)]
        gate.wait_until_reached()
        # Then another replica is started, which runs the next sequence at the same time
        wait_for(lambda: sizes(server, "sums") == (2, 2), what="the second replica", log=server.log)
        begun.append(pool.submit(begin, 10))
        gate.wait_until_reached(2)
        gate.open()
        assert {each.result() for each in begun} == {200}


# a burst


@pytest.fixture
def bursts(start_server, make_archive, tmp_path) -> Iterator[tuple[RunningServer, Path]]:
    """A server with a version of up to four replicas; each row that it runs is a line of a file."""
    runs = tmp_path / "runs"
    config = {
        "minWorkers": 0, "maxWorkers": MOST, "idleTimeoutSec": 3, "scaleDownDelaySec": 5, "batchSize": 1,
    }  # fmt: skip
    make_archive(tmp_path / "store", "slow", SLOW.format(runs=str(runs)), config)
    yield start_server(tmp_path / "store"), runs


def submit(server: RunningServer, rows: int) -> list[str]:
    with Client(server.redis_url) as client:
        return [str(job) for job in client.submit_many("slow", [str(number) for number in range(rows)])]


def statuses(server: RunningServer) -> dict[str, int]:
    with Client(server.redis_url) as client:
        return client.counts("slow")


def all_done(server: RunningServer, rows: int) -> bool:
    counts = statuses(server)
    assert not counts["failed"]
    return counts["succeeded"] == rows


def runs_of(runs: Path) -> Counter[str]:
    return Counter(runs.read_text().split())


@pytest.mark.slow
def test_a_burst_is_drained_nearly_as_fast_as_by_four_replicas_and_nothing_is_lost(bursts):
    server, runs = bursts
    assert sizes(server, "slow") == (0, 0)
    began = time.monotonic()
    submit(server, ROWS)
    wait_for(lambda: sizes(server, "slow")[0], what="the first replica", log=server.log)
    start_s = time.monotonic() - began
    wait_for(lambda: sizes(server, "slow")[1] == MOST, what="the decision", log=server.log)
    decided = time.monotonic()
    wait_for(lambda: sizes(server, "slow")[0] == MOST, what="all replicas", log=server.log)
    start_s += time.monotonic() - decided
    wait_for(lambda: all_done(server, ROWS), 300, "all answers", server.log)
    took_s, ideal_s = time.monotonic() - began, ROWS * ROW_S / MOST
    log.info(
        "drained in %.1f s; %d replicas need %.1f s, their starts %.1f s", took_s, MOST, ideal_s, start_s
    )
    wait_for(lambda: sizes(server, "slow") == (0, 0), what="the rest", log=server.log)
    assert runs_of(runs) == Counter(map(str, range(ROWS)))
    assert took_s < 1.3 * ideal_s + start_s


@pytest.mark.slow
def test_replicas_that_stop_while_others_work_lose_nothing(bursts):
    server, runs = bursts
    submit(server, 2000)
    wait_for(lambda: sizes(server, "slow")[0] == MOST, what="all replicas", log=server.log)
    for most in (1, 4, 2):  # by hand, in the middle of the work
        url = f"{server.management}/models/slow?min_worker=0&max_worker={most}"
        httpx.put(url, timeout=60).raise_for_status()
        wait_for(lambda most=most: sizes(server, "slow")[0] <= most, what=f"{most} replicas", log=server.log)
    wait_for(lambda: all_done(server, 2000), 300, "all answers", server.log)
    assert runs_of(runs) == Counter(map(str, range(2000)))


@pytest.fixture
def second_node(bursts, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    server, _ = bursts
    options = ["--state-dir", tmp_path / "second", "--name", "b"]
    command = [MARQ, "node", "--redis-url", server.redis_url, *options]
    with (tmp_path / "second.log").open("wb") as log:
        node = subprocess.Popen(command, env=server.environment, stdout=log, stderr=subprocess.STDOUT)
    with redis.Redis.from_url(server.redis_url) as client:
        wait_for(lambda: client.zcard("marq:nodes") == 2, what="the second node")
    yield node
    node.send_signal(signal.SIGTERM)
    node.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["the one that decides", "the other one"])
def test_a_node_that_is_killed_in_mid_scale_costs_no_request(bursts, second_node, killed):
    server, runs = bursts
    rows = 3000
    submit(server, rows)
    wait_for(lambda: sizes(server, "slow")[1] == MOST, what="the decision", log=server.log)
    with redis.Redis.from_url(server.redis_url) as client:
        decider = int(client.get("marq:autoscaler").split()[1])
    parents = {
        process.pid: process.ppid()
        for parent in (server.process.pid, second_node.pid)
        for process in (psutil.Process(parent), *psutil.Process(parent).children(recursive=True))
        if "workers.node" in process.cmdline()
    }
    nodes = [pid for pid, parent in parents.items() if parent not in parents]  # a child begins as a copy
    assert len(nodes) == 2 and decider in nodes
    [other] = {*nodes} - {decider}
    psutil.Process(decider if killed == "the one that decides" else other).kill()
    wait_for(lambda: all_done(server, rows), 300, "all answers", server.log)
    found = runs_of(runs)
    assert found.keys() == set(map(str, range(rows)))
    assert sum(found.values()) <= rows + MOST  # those that were running when their replicas were killed
    wait_for(lambda: sizes(server, "slow") == (0, 0), 120, "the rest", server.log)
