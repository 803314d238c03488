"""Redis, gateways and workers of deploy/docker-compose.yml, some of them killed: `make test-compose`."""

import re
import time

import httpx
import pytest
from containers import Load, Project, docker, inspect, log, published, wait_until_healthy
from support import wait_for

pytestmark = pytest.mark.timeout(2400)
CLIENTS = 12
KILL_WORKER_S, KILL_GATEWAY_S, REST_S = 6, 6, 12


@pytest.fixture(scope="module")
def running(project: Project) -> Project:
    """With two gateways and three workers, and a replica in each worker."""
    project.up(gateways=2, workers=3)
    wait_for(lambda: len(workers_with_replicas(project)) == 3, 60, "a replica in each worker")
    return project


def workers_with_replicas(project: Project) -> list[str]:
    """Their containers; the name of a node begins with its container's."""
    described = project.in_gateway("marq", "describe", "square", "--json")
    nodes = tuple(re.findall(r'"node": "(\w+)', described))
    return [worker for worker in project.containers("worker") if worker.startswith(nodes)]


def headers(project: Project, plane: str = "inference") -> dict[str, str]:
    return {"Authorization": f"Bearer {project.tokens()[plane]['key']}", "Content-Type": "application/json"}


def redeliveries(project: Project) -> int:
    """Of all workers together."""
    code = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8082/metrics').read().decode())"
    text = project.in_gateway("python", "-c", code)
    return sum(
        int(float(n)) for n in re.findall(r"^marq_redeliveries_total\{.*\} (\S+)$", text, re.MULTILINE)
    )


def test_the_gateway_image_has_no_pytorch_and_both_run_without_root(running: Project):
    for service, has_torch in (("gateway", "False"), ("worker", "True")):
        image = running.environment[f"{service.upper()}_IMAGE"]
        log.info(
            "image %s: %.0f MB", service, int(docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6
        )
        size = running.compose("exec", "-T", service, "du", "-sm", "/home/venv").split()[0]
        log.info("  of which Python packages: %s MB", size)
        code = "import importlib.util as i; print(i.find_spec('torch') is not None)"
        assert running.compose("exec", "-T", service, "python", "-c", code) == has_torch
        assert running.compose("exec", "-T", service, "id", "-un") == "model-server"


def test_workers_have_names_of_their_own_and_cannot_write_the_model_store(running: Project):
    workers = running.containers("worker")
    names = {docker("exec", worker, "hostname") for worker in workers}
    assert len(names) == len(workers) == 3
    for container in (*workers, *running.containers("gateway")):
        mounts = {mount["Destination"]: mount["RW"] for mount in inspect(container)["Mounts"]}
        assert mounts == {"/home/model-server/model-store": False}


def test_both_gateways_answer_with_the_same_tokens_only(running: Project):
    for gateway in running.containers("gateway"):
        url = f"{published(gateway, 8080)}/predictions/square"
        assert httpx.post(url, content="12", headers=headers(running), timeout=30).text == "144"
        assert httpx.post(url, content="12", timeout=30).json()["type"] == "InvalidKeyException"


def test_what_handlers_print_is_in_the_log_of_their_container(running: Project):
    gateway = published(running.containers("gateway")[0], 8080)
    httpx.post(f"{gateway}/predictions/square", content="3", headers=headers(running), timeout=30)
    wait_for(lambda: "squared 1" in running.compose("logs", "worker"), 10, "the handler's line")
    wait_for(lambda: '"POST /predictions/square HTTP/1.1" 200' in running.compose("logs", "gateway"), 10)


def test_no_accepted_job_is_lost_when_a_worker_and_a_gateway_are_killed(running: Project):
    # Given load through both gateways
    killed, survivor = running.containers("gateway")
    worker = workers_with_replicas(running)[0]
    urls = {each: published(each, 8080) for each in (killed, survivor)}
    load, before = Load(list(urls.values()), headers(running)), redeliveries(running)
    load.start(CLIENTS)
    # When a worker that has replicas is killed, and a while later a gateway
    time.sleep(KILL_WORKER_S)
    docker("kill", worker)
    time.sleep(KILL_GATEWAY_S)
    docker("kill", killed)
    time.sleep(REST_S)
    load.stop()
    # Then each accepted job is answered, and only connections of that gateway have failed
    right, again = load.answered(urls[survivor]), redeliveries(running) - before
    log.info("jobs: %d accepted, %d answered; %d requests were run again", len(load.jobs), right, again)
    log.info("accepted by gateway: %s", dict(load.accepted))
    log.info("predictions answered by gateway: %s", dict(load.predicted))
    log.info("connections lost by gateway: %s (killed: %s)", dict(load.lost), urls[killed])
    assert load.wrong == []
    assert right == len(load.jobs) == sum(load.accepted.values())
    assert set(load.accepted) == set(load.predicted) == set(urls.values())
    assert set(load.lost) == {urls[killed]}
    assert again, "the killed worker held nothing"


def test_a_gateway_that_comes_back_keeps_tokens_and_sizes(running: Project):
    # Given a model that an operator has scaled
    tokens = running.tokens()
    running.in_gateway("marq", "scale", "square", "4")
    # When what was killed comes back
    running.up(gateways=2, workers=3)
    # Then nothing has changed for clients and for the model
    assert running.tokens() == tokens
    for gateway in running.containers("gateway"):
        url = f"{published(gateway, 8081)}/models/square"
        (model,) = httpx.get(url, headers=headers(running, "management"), timeout=30).json()
        assert model["minWorkers"] == 4


def test_requests_survive_a_restart_of_redis(running: Project):
    url = published(running.containers("gateway")[0], 8080)
    accepted = httpx.post(f"{url}/jobs/square", content="5", headers=headers(running), timeout=30)
    job = accepted.json()["job_id"]
    (redis,) = running.containers("redis")
    docker("restart", redis)
    wait_until_healthy([redis, *running.containers("gateway"), *running.containers("worker")])
    answer = httpx.get(f"{url}/jobs/{job}/result?wait=30", headers=headers(running), timeout=60)
    assert answer.text == "25"
