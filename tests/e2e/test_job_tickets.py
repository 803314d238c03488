"""Job tickets: a request is accepted only if a replica is idle, else refused at once."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from gate import HOLD
from support import wait_for

HANDLER = (
    HOLD
    + """
def handle(data, context):
    for row in data or ():
        text = bytes(row["body"]).decode()
        if text:
            hold(text)
    return data and ["done"] * len(data)
"""
)


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "tickets", HANDLER, {"useJobTicket": True, "minWorkers": 2, "maxWorkers": 2})
    server = serve_models(store)
    server.wait_until_ready("tickets", 2)
    return server


def test_a_request_that_no_idle_replica_could_take_is_refused_at_once(server, gate):
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(server.predict, "tickets", str(gate).encode()) for _ in range(2)]
        gate.wait_until_reached(2)
        refused = [server.predict("tickets") for _ in range(5)]
        gate.open()
        assert [future.result().text for future in running] == ["done", "done"]
    assert {answer.status_code for answer in refused} == {503}
    assert refused[0].json()["message"] == (
        'Model "tickets" version 1.0: none of its 2 ready replicas is idle, and useJobTicket lets no '
        "request wait."
    )
    assert server.predict("tickets").text == "done"


def test_one_request_after_the_other_is_accepted(server):
    assert {server.predict("tickets").text for _ in range(50)} == {"done"}


def test_jobs_wait_and_a_lost_replica_counts_again_when_it_is_replaced(server, gate):
    jobs = [server.submit("tickets", str(gate).encode()) for _ in range(4)]
    gate.wait_until_reached(2)
    assert server.predict("tickets").status_code == 503
    os.kill(int(server.workers("tickets")[0]["pid"]), signal.SIGKILL)
    gate.open()
    assert [server.result(job).text for job in jobs] == ["done"] * 4
    server.wait_until_ready("tickets", 2)
    wait_for(lambda: server.predict("tickets").status_code == 200)
