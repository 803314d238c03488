"""Images that are built once, and a model store that containers can read."""

import logging
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import containers
import pytest
from containers import BUILD_ARGUMENTS, BUILD_TIMEOUT_S, ROOT, SQUARE, Project, docker, free_range


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    if reason := containers.missing():
        pytest.skip(f"containers cannot be tested here: {reason}")
    logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, make_archive: Callable[..., Path]) -> Path:
    """Has one model, `square`, with three replicas."""
    directory = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 3, "batchSize": 8, "maxBatchDelay": 20, "jobQueueSize": 100_000}
    make_archive(directory, "square", SQUARE, config=config)
    directory.chmod(0o755)
    for path in directory.iterdir():
        path.chmod(0o644)
    return directory


@pytest.fixture(scope="module")
def project(store: Path) -> Iterator[Project]:
    """Built, not started; removed with all that it has, also when a test fails."""
    name = f"marqtest{secrets.token_hex(4)}"
    made = Project(
        name,
        {
            "REDIS_PASSWORD": secrets.token_hex(16),
            "MODEL_STORE": str(store),
            "INFERENCE_PORTS": free_range(4),
            "MANAGEMENT_PORTS": free_range(4),
            "GATEWAY_IMAGE": f"{name}-gateway",
            "WORKER_IMAGE": f"{name}-worker",
        },
    )
    try:
        made.compose("build", "gateway", timeout_s=BUILD_TIMEOUT_S)
        made.compose("build", "worker", timeout_s=BUILD_TIMEOUT_S)
        yield made
    finally:
        made.down()
        docker("image", "rm", "--force", f"{name}-gateway", f"{name}-worker")


@pytest.fixture(scope="session")
def all_in_one() -> Iterator[str]:
    """The image that `docker build` makes without a target."""
    name = f"marqtest{secrets.token_hex(4)}"
    arguments = [f"--build-arg={each}={value}" for each, value in BUILD_ARGUMENTS.items()]
    docker(
        "build", "--quiet", "--file", ROOT / "deploy/Dockerfile", "--tag", name, *arguments, ROOT,
        timeout_s=BUILD_TIMEOUT_S,
    )  # fmt: skip
    yield name
    docker("image", "rm", "--force", name)
