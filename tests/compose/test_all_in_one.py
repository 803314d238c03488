"""`docker run` alone, as with TorchServe's image: `make test-compose`."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from containers import docker, inspect, log, published, wait_until_healthy
from support import wait_for

pytestmark = pytest.mark.timeout(2400)
STORE = "/home/model-server/model-store"


@pytest.fixture(scope="module")
def container(all_in_one: str, store: Path) -> Iterator[str]:
    made = docker(
        "run", "--detach", "--volume", f"{store}:{STORE}",
        *(f"--publish=127.0.0.1::{port}" for port in (8080, 8081, 8082)), all_in_one,
    )  # fmt: skip
    try:
        wait_until_healthy([made])
        yield made
    finally:
        docker("rm", "--force", "--volumes", made)


def test_it_serves_the_model_store_without_tokens_as_torchserve_s_image_does(container: str):
    def predict() -> bool:
        url = f"{published(container, 8080)}/predictions/square"
        return httpx.post(url, json=12, timeout=30).text == "144"

    wait_for(predict, 60, "a replica")
    (model,) = httpx.get(f"{published(container, 8081)}/models/square").json()
    assert model["modelUrl"] == "square.mar"
    assert "marq_" in httpx.get(f"{published(container, 8082)}/metrics").text


def test_it_has_torchserve_s_ports_user_and_directories(container: str, all_in_one: str):
    log.info("image: %.0f MB", int(docker("image", "inspect", "-f", "{{.Size}}", all_in_one)) / 1e6)
    config = inspect(container)["Config"]
    assert set(config["ExposedPorts"]) == {f"{port}/tcp" for port in (8080, 8081, 8082, 7070, 7071)}
    assert (config["User"], config["WorkingDir"]) == ("model-server", "/home/model-server")
    assert docker("exec", container, "id", "-u") == "1000"
    assert (
        docker("exec", container, "which", "torchserve", "torch-model-archiver").count("/home/venv/bin") == 2
    )


def test_a_stopped_container_ends_in_order_and_starts_again(container: str):
    docker("stop", "--time", "75", container, timeout_s=100)
    state = inspect(container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    docker("start", container)
    wait_until_healthy([container])


def test_torchserve_s_command_stays_in_the_foreground(all_in_one: str, store: Path):
    made = docker(
        "run", "--detach", "--volume", f"{store}:{STORE}:ro", "--publish=127.0.0.1::8080", all_in_one,
        "torchserve", "--start", "--ncs", "--disable-token-auth", "--models", "squares=square.mar",
    )  # fmt: skip
    try:
        wait_until_healthy([made])
        url = f"{published(made, 8080)}/predictions/squares"
        wait_for(lambda: httpx.post(url, json=3, timeout=30).text == "9", 60, "a replica")
    finally:
        docker("rm", "--force", "--volumes", made)
