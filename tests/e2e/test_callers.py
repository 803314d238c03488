"""Two callers of one model, while processes of the server are killed."""

import json
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest
from support import RunningServer, wait_for

pytestmark = pytest.mark.slow
HANDLER = """
import time

def handle(data, context):
    if data is None:
        return None
    time.sleep(0.02)
    return [bytes(row["body"]) for row in data]
"""
MANY = 4000


@pytest.fixture
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 8, "callerTag": "owner", "callerQuota": MANY}
    make_archive(store, "shared", HANDLER, config)
    running: RunningServer = serve_models(store)
    running.wait_until_ready("shared")
    return running


def queue(server: RunningServer, owner: str, count: int) -> dict[str, object]:
    """The last line of the answer to a batch."""
    rows, headers = b"1\n" * count, {"x-marq-tags": f"owner={owner}"}
    answer = httpx.post(f"{server.inference}/jobs/shared:batch", content=rows, headers=headers, timeout=60)
    return json.loads(answer.raise_for_status().text.splitlines()[-1])


def counts(server: RunningServer, owner: str) -> dict[str, int]:
    listed = httpx.get(f"{server.inference}/jobs?model=shared&tag=owner={owner}&limit=1", timeout=30)
    return {state: number for state, number in listed.raise_for_status().json()["counts"].items() if number}


def kill(server: RunningServer, module: str) -> None:
    children = psutil.Process(server.process.pid).children(recursive=True)
    os.kill(next(each.pid for each in children if module in each.cmdline()), signal.SIGKILL)


def test_a_few_jobs_pass_many_of_another_caller_and_kills_lose_none(server: RunningServer) -> None:
    # Given a caller with as many jobs as its quota allows
    assert queue(server, "alice", MANY)["queued"] == MANY
    # When another one submits ten, they are done while almost all of the first still wait
    assert queue(server, "bob", 10)["queued"] == 10
    [line] = json.loads(server.command("top", "--json").stdout)
    assert line["held"]["alice"] > MANY / 4
    wait_for(lambda: counts(server, "bob") == {"succeeded": 10}, 60, what="bob's jobs")
    assert counts(server, "alice")["queued"] > MANY / 4
    # And whichever process is killed meanwhile, each job of the first ends, too
    kill(server, "workers.node")
    wait_for(lambda: server.command("top", "--json").returncode == 0, 60, what="marq top")
    kill(server, "gateway")
    wait_for(lambda: _ends(server), 180, what="alice's jobs")


def _ends(server: RunningServer) -> bool:
    try:
        return counts(server, "alice") == {"succeeded": MANY}
    except httpx.HTTPError:
        return False


def test_a_quota_is_refused_line_by_line(server: RunningServer) -> None:
    last = queue(server, "carol", MANY + 1000)
    assert last["refused"] > 0
    assert last["queued"] + last["refused"] == MANY + 1000
    headers = {"x-marq-tags": "owner=carol", "content-type": "text/plain"}
    queue(server, "carol", 200)  # it is full again
    refused = httpx.post(f"{server.inference}/jobs/shared", content=b"1", headers=headers)
    while refused.status_code == 202:  # the replica has made room for some
        queue(server, "carol", 1000)
        refused = httpx.post(f"{server.inference}/jobs/shared", content=b"1", headers=headers)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert "callerQuota" in refused.json()["message"]
