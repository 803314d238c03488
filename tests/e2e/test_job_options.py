"""Options of jobs over HTTP: paths, priorities, times, retries, preferences, lists."""

import os
import signal
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
from gate import closed
from support import RunningServer, wait_for

TEXT = {"content-type": "text/plain"}
FAILING = {**TEXT, "x-marq-retries": "1", "x-marq-retry-delay": "0.05"}
EXPLAINER = """
class Explainer:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        return [str(context.get_request_header(0, "explain"))] * len(data)
"""


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    for name, source in (("echo", handlers.ECHO), ("slow", handlers.SLOW), ("explainer", EXPLAINER)):
        make_archive(store, name, source, {"minWorkers": 1, "maxWorkers": 1})
    running: RunningServer = serve_models(store)
    for name in ("echo", "slow", "explainer"):
        running.wait_until_ready(name)
    return running


def state(server: RunningServer, job: str) -> dict[str, object]:
    return httpx.get(f"{server.inference}/jobs/{job}?wait=55", timeout=60).raise_for_status().json()


def test_a_job_has_a_path_and_may_be_an_explanation(server: RunningServer) -> None:
    job = server.submit("echo/1.0/a/b", b"headers", headers=TEXT)
    assert server.result(job).json()["path"] == "a/b"
    assert server.result(server.submit("explainer:explain", b"x")).text == "True"
    assert server.result(server.submit("explainer:explain/1.0/a", b"x")).text == "True"
    assert server.result(server.submit("explainer", b"x")).text == "False"


def test_a_failed_job_is_tried_again_by_itself_and_by_hand(server: RunningServer) -> None:
    # When a job fails that may be tried once more
    job = server.submit("echo", b"fail", headers={**FAILING, "x-marq-tags": "flaky"})
    # Then it is, and it has failed after that
    record = state(server, job)
    assert (record["state"], record["retried"], record["tags"]) == ("failed", 1, ["flaky"])
    assert record["handler_ms"] >= 0
    # And it is queued again when its owner asks
    again = httpx.post(f"{server.inference}/jobs/{job}/retry")
    assert (again.status_code, again.json()) == (202, {"job_id": job})
    assert again.headers["location"] == f"/jobs/{job}"
    assert state(server, job)["state"] == "failed"
    # But not one that has succeeded
    done = server.submit("echo", b"x")
    state(server, done)
    refused = httpx.post(f"{server.inference}/jobs/{done}/retry")
    assert (refused.status_code, "only failed and expired jobs" in refused.text) == (409, True)


@pytest.mark.slow
def test_a_scheduled_job_runs_in_its_time_also_when_the_node_has_ended(server: RunningServer) -> None:
    # Given a job for later
    job = server.submit("echo", b"x", headers={**TEXT, "x-marq-not-before": "+20", "x-marq-tags": "later"})
    record = httpx.get(f"{server.inference}/jobs/{job}").json()
    assert record["state"] == "scheduled"
    # When the node is killed
    [node] = [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if "workers.node" in child.cmdline()
    ]
    os.kill(node.pid, signal.SIGKILL)
    # Then the job runs all the same, once, and not before its time
    finished = wait_for(lambda: (found := state(server, job))["state"] == "succeeded" and found)
    assert finished["started"] >= record["due"] - 0.01
    counts = httpx.get(f"{server.inference}/jobs?model=echo&tag=later").json()["counts"]
    assert (counts["succeeded"], sum(counts.values())) == (1, 1)


def test_a_client_may_prefer_a_job_to_waiting(server: RunningServer, tmp_path) -> None:
    # The answer, if it is there in time
    answer = server.predict("echo", b"x", headers={**TEXT, "prefer": "respond-async, wait=50"})
    assert (answer.status_code, answer.text) == (200, "x")
    assert answer.headers["preference-applied"] == "respond-async, wait=50"
    assert answer.headers["location"].startswith("/jobs/echo:")
    # Else a job
    with closed(tmp_path / "gate") as gate:
        later = server.predict("slow", f"hold {gate}".encode(), headers={"prefer": "respond-async"})
        assert (later.status_code, later.headers["preference-applied"]) == (202, "respond-async")
        location = later.headers["location"]
        assert location == f"/jobs/{later.json()['job_id']}"
    assert httpx.get(f"{server.inference}{location}/result?wait=50", timeout=60).text == "done"


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_too_long_or_empty_is_refused_in_each_way_in(server: RunningServer, key: str) -> None:
    headers = {**TEXT, "idempotency-key": key, "prefer": "respond-async"}
    for path in ("jobs", "predictions"):
        answer = httpx.post(f"{server.inference}/{path}/echo", content=b"x", headers=headers)
        assert (answer.status_code, "255" in answer.text or not key) == (422, True)


def test_a_prediction_may_have_a_priority(server: RunningServer) -> None:
    for priority in ("high", "normal", "low"):
        assert server.predict("echo", b"x", headers={**TEXT, "x-marq-priority": priority}).text == "x"
    refused = server.predict("echo", b"x", headers={"x-marq-priority": "urgent"})
    assert (refused.status_code, refused.json()["message"]) == (
        400, "priority must be one of high, normal, low, not 'urgent'",
    )  # fmt: skip


def test_many_jobs_are_cancelled_by_their_tag(server: RunningServer) -> None:
    headers = {**TEXT, "x-marq-not-before": "+3600", "x-marq-tags": "bulk"}
    jobs = [server.submit("echo", b"x", headers=headers) for _ in range(3)]
    done = httpx.delete(f"{server.inference}/jobs?model=echo&tag=bulk").json()
    assert done == {"cancelled": 3, "remaining": 0}
    assert {state(server, job)["state"] for job in jobs} == {"cancelled"}
    assert httpx.delete(f"{server.inference}/jobs").status_code == 422


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"x-marq-retries": "-1"}, "Headers X-Marq-…: retries must be a whole number from 0 to 100, not -1"),
        (
            {"x-marq-tag": "x"},
            "Header x-marq-tag is not known; there are x-marq-input-url, x-marq-max-attempts, ",
        ),
        ({"x-marq-start-before": "2020-01-01"}, "must be a time such as"),
        ({"x-marq-not-before": "+60", "x-marq-start-before": "+50"}, "The job could never start"),
        ([("x-marq-priority", "low"), ("x-marq-priority", "high")], "x-marq-priority is given twice"),
        ({"x-marq-retries": "1_0"}, "x-marq-retries must be a whole number, not '1_0'"),
        ({"x-marq-webhook": "http://localhost:9000/"}, "localhost is not a public address"),
        ({"x-marq-webhook": "http://10.0.0.1/"}, "10.0.0.1 is not a public address; the server's setting"),
        ({"x-marq-webhook": "http://[::1]/"}, "webhook_allowed_hosts can name it"),
    ],
)
def test_a_wrong_option_is_refused_with_what_would_be_right(server: RunningServer, headers, message) -> None:
    refused = httpx.post(f"{server.inference}/jobs/echo", content=b"x", headers=headers)
    assert (refused.status_code, message in refused.json()["message"]) == (400, True), refused.text


def test_a_batch_has_no_webhook_inside_either(server: RunningServer) -> None:
    headers = {"content-type": "application/x-ndjson", "x-marq-webhook": "http://169.254.169.254/"}
    refused = httpx.post(f"{server.inference}/jobs/echo:batch", content=b"1\n", headers=headers)
    assert (refused.status_code, "webhook_allowed_hosts" in refused.json()["message"]) == (400, True)


def test_a_job_has_its_priority(server: RunningServer) -> None:
    for priority in ("high", "low"):
        job = server.submit("echo", b"x", headers={**TEXT, "x-marq-priority": priority})
        assert (state(server, job)["state"], state(server, job)["priority"]) == ("succeeded", priority)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_option_in_the_query_string_names_the_header_that_has_an_effect(
    server: RunningServer, method: str
) -> None:
    answer = httpx.request(method, f"{server.inference}/jobs/echo?priority=high", content=b"x")
    assert answer.status_code == 202
    assert answer.headers["warning"] == (
        '299 marq "priority has no effect here: send the header X-Marq-Priority."'
    )
