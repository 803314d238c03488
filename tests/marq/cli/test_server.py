"""The commands against a real server, as a user runs them."""

import json

import pytest
from gate import HOLD
from support import wait_for

from marq.registry.token_store import KEY_FILE

ECHO = (
    HOLD
    + """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    bodies = [row["body"] for row in data]
    for body in bodies:
        if body.startswith(b"hold "):
            hold(body.decode().removeprefix("hold "))
    return [f"{type(body).__name__}: {bytes(body).decode()}" for body in bodies]
"""
)
BROKEN = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    raise KeyError("weights")


import nowhere_to_be_found
"""


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory):
    """A server with tokens and two models, one of which cannot be loaded."""
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", ECHO, config={"minWorkers": 1, "maxWorkers": 1})
    make_archive(store, "broken", BROKEN, config={"minWorkers": 1, "maxWorkers": 1})
    started = start_server(store, ["echo.mar", "broken.mar"], ["--gateway-workers", "1"])
    wait_for(lambda: states(started) == {"echo": "ready", "broken": "failing"}, what="the models")
    return started


def models(server):
    shown = json.loads(server.command("status", "--json").stdout)
    return {model["name"]: model for model in shown["models"]}


def states(server):
    return {name: model["state"] for name, model in models(server).items()}


@pytest.fixture
def bodies(tmp_path):
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.bin")
        files[-1].write_bytes(f"body {number}".encode())
    return files


def test_status_shows_what_runs_and_why_a_model_fails(server):
    broken = models(server)["broken"]
    assert "nowhere_to_be_found" in broken["reason"]
    shown = server.marq("status")
    assert shown.returncode == 0
    assert server.inference in shown.stdout
    assert "failing" in shown.stdout
    assert "nowhere_to_be_found" in shown.stdout


def test_predict_finds_server_and_token_by_itself(server, bodies):
    before = models(server)["echo"]["requests"]
    answer = server.marq("predict", "echo", str(bodies[1]))
    assert (answer.returncode, answer.stdout) == (0, "bytearray: body 1")
    assert server.predict("echo", b"x").status_code == 400  # the token is really needed
    wait_for(lambda: models(server)["echo"]["requests"] > before, what="the count of requests")


def test_predict_tells_what_the_server_refuses(server, bodies):
    answer = server.marq("predict", "nothing", str(bodies[0]))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("Error: ModelNotFoundException (404): Model not found: nothing. ")
    assert answer.stderr.endswith("Registered models: broken, echo.\n")


def test_submit_and_wait_prints_the_results_in_order(server, bodies):
    answer = server.marq("submit", "echo", "--wait", *map(str, bodies))
    assert answer.returncode == 0
    assert answer.stdout.splitlines() == [f"bytearray: body {number}" for number in range(3)]
    assert len(set(answer.stderr.split())) == 3


def test_a_submitted_job_is_watched_and_fetched_by_its_id(server, tmp_path, gate):
    slow = tmp_path / "slow"
    slow.write_text(f"hold {gate}")
    job_id = server.marq("submit", "echo", str(slow)).stdout.strip()
    early = server.marq("job", job_id, "--result")
    assert early.returncode == 1
    assert early.stderr.startswith("Error: ConflictStatusException (409)")
    gate.open()
    record = json.loads(server.marq("job", job_id, "--wait", "50", "--json").stdout)
    assert (record["state"], record["job_id"]) == ("succeeded", job_id)
    assert server.marq("job", job_id, "--result").stdout == f"bytearray: hold {gate}"
    assert "succeeded" in server.marq("job", job_id).stdout


def test_stop_waits_until_the_server_has_ended(server):
    key_file = server.log.with_name(KEY_FILE)
    key_file.write_text('{"inference": {"key": "of another server that was started in this directory"}}')
    stopped = server.marq("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert f"(pid {server.process.pid}) has stopped." in stopped.stdout
    assert server.process.wait(60) == 0
    assert server.marq("status").returncode == 1
    assert server.marq("stop").stdout.startswith("No marq server runs")
    assert key_file.exists()
