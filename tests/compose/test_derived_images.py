"""Images made from marq's as people make them from TorchServe's: `make test-compose`."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from containers import BUILD_TIMEOUT_S, docker, published, wait_until_healthy
from support import wait_for

pytestmark = pytest.mark.timeout(2400)

# A model that is copied in, lines that are added to config.properties, a command with a variable in it.
DOCKERFILE = """
FROM {image}
ENV MODEL_NAME=square
USER root
RUN printf "\\nnumber_of_netty_threads=4\\n" \\
    >> /home/model-server/config.properties
USER model-server
COPY $MODEL_NAME.mar /home/model-server/model-store/
EXPOSE 8080 8081
CMD ["torchserve", \\
     "--start", \\
     "--ts-config=/home/model-server/config.properties", \\
     "--model-store=/home/model-server/model-store --disable-token-auth", \\
     "--models=$MODEL_NAME=$MODEL_NAME.mar"]
"""


@pytest.fixture(scope="module")
def derived(all_in_one: str, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    context = tmp_path_factory.mktemp("derived")
    shutil.copy(store / "square.mar", context)
    (context / "Dockerfile").write_text(DOCKERFILE.replace("{image}", all_in_one))
    name = f"marqtest{secrets.token_hex(4)}"
    docker("build", "--quiet", "--tag", name, context, timeout_s=BUILD_TIMEOUT_S)
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture
def answers(derived: str) -> Iterator[Callable[..., str]]:
    """Runs the derived image with options of `docker run`; returns the container when it has answered."""
    containers = []

    def run(*options: str, command: tuple[str, ...] = ()) -> str:
        made = docker("run", "--detach", "--publish=127.0.0.1::8080", *options, derived, *command)
        containers.append(made)
        wait_until_healthy([made])
        url = f"{published(made, 8080)}/predictions/square"
        wait_for(lambda: httpx.post(url, json=12, timeout=30).text == "144", 60, "a replica")
        return made

    yield run
    for each in containers:
        docker("rm", "--force", "--volumes", each)


def test_the_command_of_the_image_serves_the_model_that_a_variable_names(answers):
    answers()


def test_a_command_in_one_string_stays_in_the_foreground(answers):
    answers(
        command=("torchserve --start --ncs --disable-token-auth --models square=square.mar && sleep inf",)
    )


def test_a_script_that_starts_the_server_in_the_background_keeps_the_container(answers):
    answers(command=("bash", "-c", "mkdir -p x && torchserve --start --dt --ncs --models square=square.mar"))


def test_a_user_without_a_home_on_a_read_only_root_is_served_from_the_temporary_directory(answers):
    answers("--user=12345:12345", "--read-only", "--tmpfs=/tmp", "--env=TMPDIR=/tmp", "--env=HOME=/nowhere")


def test_the_containers_log_has_each_line_of_handlers_and_of_the_access_log_once(answers):
    container = answers()
    lines = ("squared 1", "POST /predictions/square")
    for line in lines:  # the access log is written in the background
        wait_for(lambda line=line: line in docker("logs", container), 60, line)
    assert [docker("logs", container).count(line) for line in lines] == [1, 1]
