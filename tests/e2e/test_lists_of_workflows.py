"""Nodes over a list, over HTTP: a dead element, a cancelled run, a deadline; no element is left in a lane."""

import httpx
import pytest
import redis
from gate import HOLD, Gate
from support import RunningServer, wait_for
from workflow_archives import pack_workflow

from marq import keys

FUNCTIONS = (
    HOLD
    + """
import os
import signal


def act(data, context):
    return [answer(row["body"]) for row in data or ()]


def answer(element):
    if element == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if str(element).startswith("hold "):
        hold(element[5:])
    return {"was": element}
"""
)


@pytest.fixture(scope="module")
def server(shared_server) -> RunningServer:
    running: RunningServer = shared_server.server
    pack_workflow(shared_server.store, "acts", "dag:\n  act: []\nmap: [act]\n", FUNCTIONS)
    query = {"url": "acts.war"}
    httpx.post(f"{running.management}/workflows", params=query, timeout=120).raise_for_status()
    yield running
    httpx.delete(f"{running.management}/workflows/acts", timeout=120)
    shared_server.clear()


@pytest.fixture(scope="module")
def client(server):
    with redis.Redis.from_url(server.redis_url) as connected:
        yield connected


def queued(client) -> int:
    return sum(client.xlen(lane) for lane in keys.lanes("acts__act", "1.0"))


def test_the_client_sends_a_list_and_gets_a_list(server, client):
    answer = httpx.post(f"{server.inference}/wfpredict/acts", json=[1, "two", {"x": 3.0}], timeout=60)
    assert answer.json() == [{"was": 1}, {"was": "two"}, {"was": {"x": 3.0}}]
    assert queued(client) == 0


def test_an_element_that_ends_its_replica_is_a_dead_letter_and_ends_the_run(server, client):
    answer = httpx.post(f"{server.inference}/wfpredict/acts", json=[1, "die", *range(50)], timeout=120)
    assert (answer.status_code, answer.json()["message"]) == (500, "Error executing act#1")
    wait_for(lambda: queued(client) == 0, what="empty lanes")
    [(_, letter)] = client.xrange(keys.dead_letters("acts__act"))
    assert (letter[b"node"], letter[b"body"]) == (b"act#1", b'"die"')
    assert client.keys("marq:{acts}:run:*") == []


def test_a_cancelled_job_takes_its_elements_out(server, client, gate: Gate):
    job = httpx.post(f"{server.inference}/jobs/acts", json=[f"hold {gate}", *range(100)]).json()["job_id"]
    gate.wait_until_reached()
    assert queued(client) == 101
    httpx.delete(f"{server.inference}/jobs/{job}").raise_for_status()
    assert queued(client) == 0
    gate.open()
    record = httpx.get(f"{server.inference}/jobs/{job}").json()
    assert (record["state"], record["nodes"]["act"]["elements_done"]) == ("cancelled", 0)


def test_elements_that_wait_beyond_the_deadline_end_the_run_with_504(server, client, gate: Gate):
    held = httpx.post(f"{server.inference}/jobs/acts", json=[f"hold {gate}"]).json()["job_id"]
    gate.wait_until_reached()
    headers = {"X-Request-Timeout": "1"}
    job = httpx.post(f"{server.inference}/jobs/acts", json=list(range(40)), headers=headers).json()["job_id"]

    def late() -> bool:
        """Not before the gateway knows that the elements of the cancelled job are gone."""
        answer = httpx.post(
            f"{server.inference}/wfpredict/acts", json=list(range(40)), headers=headers, timeout=60
        )
        return answer.status_code == 504

    wait_for(late, what="the deadline of a run")
    wait_for(lambda: queued(client) <= 41, what="the elements of the client's run to leave")
    gate.open()
    assert server.result(held).json() == [{"was": f"hold {gate}"}]
    assert server.result(job).status_code == 504
    wait_for(lambda: queued(client) == 0, what="empty lanes")
