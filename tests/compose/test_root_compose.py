"""`docker compose up` in the project's root, as a stranger types it, with a model store of the test's own."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from containers import BUILD_TIMEOUT_S, ROOT, SQUARE, Project, docker, free_range, inspect, wait_until_healthy
from support import wait_for

pytestmark = pytest.mark.timeout(2400)
SEVEN = ROOT / "examples/digits/seven.png"


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Started from an empty model store, without any setting but names and a port that is free."""
    name, store = f"marqtest{secrets.token_hex(4)}", tmp_path_factory.mktemp("store")
    store.chmod(0o755)
    images = {f"{each.upper()}_IMAGE": f"{name}-{each}" for each in ("gateway", "worker", "sample")}
    port = free_range(1).split("-")[0]
    made = Project(name, {"MODEL_STORE": str(store), "INFERENCE_PORT": port, **images}, ROOT / "compose.yaml")
    try:
        made.compose("up", "--detach", timeout_s=BUILD_TIMEOUT_S)
        yield made
    finally:
        made.down()
        docker("image", "rm", "--force", *images.values())


@pytest.fixture
def url(stranger: Project) -> str:
    return f"http://127.0.0.1:{stranger.environment['INFERENCE_PORT']}"


def answered(url: str, expected: str, body: bytes, model: str) -> Callable[[], bool]:
    """Whether a prediction is right; connections may fail while things start."""

    def ask() -> bool:
        try:
            return expected in httpx.post(f"{url}/predictions/{model}", content=body, timeout=60).text
        except httpx.TransportError:
            return False

    return ask


def test_the_sample_model_answers(stranger: Project, url: str):
    wait_for(answered(url, '"digit": 7', SEVEN.read_bytes(), "digits"), 180, "the digit")


def test_the_password_is_made_and_shown_nowhere(stranger: Project):
    (redis,) = stranger.containers("redis")
    stored = docker("exec", redis, "cat", "/run/marq/redis-url")
    password = stored.partition("redis://:")[2].partition("@")[0]
    assert len(password) == 48
    assert "NOAUTH" in docker("exec", redis, "redis-cli", "ping")
    assert password not in stranger.compose("logs")
    assert password not in "".join(docker("top", each) for each in stranger.containers("worker"))


def test_a_new_archive_needs_no_restart_and_its_output_is_in_the_logs(
    stranger: Project, url: str, make_archive: Callable[..., Path]
):
    store = Path(stranger.environment["MODEL_STORE"])
    make_archive(store, "square", SQUARE, config={"minWorkers": 2}).chmod(0o644)
    wait_for(answered(url, "144", b"12", "square"), 120, "the new model")
    wait_for(lambda: "squared 1" in stranger.compose("logs", "worker"), 60, "the handler's line")


def test_one_port_serves_any_number_of_gateways_also_when_they_are_restarted(stranger: Project, url: str):
    # Given three gateways and two workers behind the one port
    stranger.compose(
        "up", "--detach", "--no-recreate", "--scale", "gateway=3", "--scale", "worker=2", timeout_s=300
    )
    gateways = stranger.containers("gateway")
    wait_until_healthy([*gateways, *stranger.containers("worker")], 240)
    assert len(gateways) == 3

    def asked() -> set[str]:
        assert answered(url, "144", b"12", "square")()
        return {each for each in gateways if "/predictions/square" in docker("logs", each)}

    wait_for(lambda: len(asked()) == 3, 120, "each gateway's turn")
    # When one is killed, and one is restarted
    docker("kill", gateways[0])
    docker("restart", gateways[1])
    # Then the balancer goes on with those that are there, under the same port
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert answered(url, "144", b"12", "square")()
    wait_until_healthy(gateways[1:], 240)


def test_all_of_it_comes_back_from_a_restart_with_its_models(stranger: Project, url: str):
    (redis,) = stranger.containers("redis")
    before = docker("exec", redis, "cat", "/run/marq/redis-url")
    stranger.compose("restart", timeout_s=400)
    wait_for(answered(url, "144", b"12", "square"), 240, "the model that was put in")
    wait_for(answered(url, '"digit": 7', SEVEN.read_bytes(), "digits"), 240, "the sample model")
    (redis,) = stranger.containers("redis")
    assert docker("exec", redis, "cat", "/run/marq/redis-url") == before


def test_the_sample_stays_out_of_a_store_that_has_archives(stranger: Project):
    store = Path(stranger.environment["MODEL_STORE"])
    (store / "digits.mar").unlink()
    stranger.compose("run", "--rm", "sample", timeout_s=120)
    assert sorted(path.name for path in store.iterdir()) == ["square.mar"]


def test_management_is_not_published(stranger: Project):
    for service in ("gateway", "worker", "redis"):
        for each in stranger.containers(service):
            assert not any((inspect(each)["NetworkSettings"]["Ports"] or {}).values())
    (binding,) = inspect(stranger.containers("balancer")[0])["NetworkSettings"]["Ports"]["8080/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    assert "digits" in stranger.in_gateway("marq", "models")
