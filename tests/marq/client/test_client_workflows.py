"""Clients run workflows by their names, as they run models."""

import threading

import pytest
from support import wait_for
from workflow_plant import DIAMOND, Plant, workflow_of

from marq.client import Client
from marq.errors import BadRequest, ModelNotFound


@pytest.fixture
def site(redis_url):
    return Plant(redis_url, workflow_of(DIAMOND))


def play(site):
    """Answers each node of one run, in another thread."""

    def work():
        for node in "abcd":
            request = wait_for(lambda node=node: site.take(node), what=f"an entry of {node}")
            site.answer(node, request, node.upper().encode())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_predict_returns_the_answer_of_the_whole_run(site):
    with Client(site.url) as client:
        thread = play(site)
        assert client.predict("w", b"in").body == b"D"
        thread.join()


def test_submit_makes_a_job_of_it(site):
    with Client(site.url) as client:
        job = client.submit("w", b"in", key="k")
        assert client.submit("w", b"in", key="k").id == job.id
        play(site).join()
        assert job.result(timeout=60).body == b"D"


def test_a_run_that_takes_too_long_leaves_nothing(site):
    with Client(site.url) as client:
        with pytest.raises(TimeoutError):
            client.predict("w", b"in", timeout=0.2)
        assert (site.queued, site.left) == (0, [])


def test_workflows_have_no_versions_and_fewer_options(site):
    with Client(site.url) as client:
        with pytest.raises(ModelNotFound):
            client.predict("w", b"in", version="1.0")
        with pytest.raises(ModelNotFound):
            client.predict("unknown", b"in")
        with pytest.raises(BadRequest):
            client.submit("w", b"in", retries=1)
