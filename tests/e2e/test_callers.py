"""Two callers of one model, while processes of the server are killed."""

import json
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest
from gate import HOLD, closed
from support import RunningServer, wait_for

pytestmark = pytest.mark.slow
HANDLER = (
    HOLD
    + """
def handle(data, context):
    if data is None:
        return None
    for row in data:
        if isinstance(row["body"], str):
            hold(row["body"])
    return ["done"] * len(data)
"""
)
MANY, QUOTA = 2000, 2500


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {
        "minWorkers": 1, "maxWorkers": 1, "batchSize": 8,
        "callerTag": "owner", "callerQuota": QUOTA, "callerWeights": "bob=1.5,dave=2",
    }  # fmt: skip
    make_archive(store, "shared", HANDLER, config)
    running: RunningServer = start_server(store)
    running.wait_until_ready("shared")
    return running


def queue(server: RunningServer, owner: str, count: int, row: object = 1) -> dict[str, object]:
    """The last line of the answer to a batch."""
    rows, headers = json.dumps(row).encode() + b"\n", {"x-marq-tags": f"owner={owner}"}
    url = f"{server.inference}/jobs/shared:batch"
    answer = httpx.post(url, content=rows * count, headers=headers, timeout=60)
    return json.loads(answer.raise_for_status().text.splitlines()[-1])


def counts(server: RunningServer, owner: str) -> dict[str, int]:
    """How many jobs are in each state; empty while no gateway answers."""
    try:
        listed = httpx.get(f"{server.inference}/jobs?model=shared&tag=owner={owner}&limit=1", timeout=30)
    except httpx.TransportError:
        return {}
    return {state: number for state, number in listed.raise_for_status().json()["counts"].items() if number}


def ends(server: RunningServer, owner: str) -> list[float]:
    """When each job has finished."""
    found: list[float] = []
    url = f"{server.inference}/jobs?model=shared&tag=owner={owner}&limit=1000"
    page = httpx.get(url, timeout=30).raise_for_status().json()
    while page["jobs"]:
        found += [job["finished"] for job in page["jobs"]]
        if "next" not in page:
            break
        page = httpx.get(server.inference + page["next"], timeout=30).raise_for_status().json()
    return sorted(found)


def kill(server: RunningServer, module: str) -> None:
    children = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(next(each.pid for each in children if module in each.cmdline()), signal.SIGKILL)


def test_a_few_jobs_pass_many_of_another_caller_and_kills_lose_none(server: RunningServer, tmp_path) -> None:
    # Given a replica that is busy, and a caller with many jobs
    with closed(tmp_path / "gate") as gate:
        assert queue(server, "alice", 1, str(gate))["queued"] == 1
        gate.wait_until_reached()
        assert queue(server, "alice", MANY)["queued"] == MANY
        # When another one submits ten
        assert queue(server, "bob", 10)["queued"] == 10
        [line] = json.loads(server.command("top", "--json").stdout)
        assert (line["held"]["alice"], line["held"]["bob"]) == (pytest.approx(MANY, abs=100), 10)
        assert (line["weights"], line["quota"]) == ({"bob": 1.5, "dave": 2.0}, QUOTA)
        shown = " ".join(server.command("top", "--once").stdout.split())
        assert "alice 1," in shown
        assert f"bob 10 (weight 1.5); quota of each caller: {QUOTA:,} unfinished jobs" in shown
        # And processes are killed meanwhile
        kill(server, "workers.node")
        kill(server, "gateway")
    # Then each job ends, and the ten do so before almost all of the first caller
    wait_for(lambda: counts(server, "bob") == {"succeeded": 10}, what="bob's jobs")
    wait_for(lambda: counts(server, "alice") == {"succeeded": MANY + 1}, what="alice's jobs")
    last = ends(server, "bob")[-1]
    assert sum(end <= last for end in ends(server, "alice")) < MANY / 4


def test_a_quota_is_refused_line_by_line(server: RunningServer, tmp_path) -> None:
    with closed(tmp_path / "gate") as gate:
        queue(server, "carol", 1, str(gate))
        gate.wait_until_reached()
        last = queue(server, "carol", QUOTA + 100)
        assert (last["queued"], last["refused"]) == (QUOTA - 1, 101)
        headers = {"x-marq-tags": "owner=carol", "content-type": "text/plain"}
        refused = httpx.post(f"{server.inference}/jobs/shared", content=b"1", headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert "callerQuota" in refused.json()["message"]
        assert server.submit("shared", b"1", headers={**headers, "x-marq-tags": "owner=dave"})
