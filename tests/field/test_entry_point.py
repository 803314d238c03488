"""The container's entry point: derived images and compose files write commands as for TorchServe's image."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support import wait_for

ENTRY_POINT = Path(__file__).parents[2] / "deploy" / "entrypoint.sh"


@pytest.fixture
def words(tmp_path):
    """Runs the entry point with a stand-in for tini that prints the words which it is given."""
    tini = tmp_path / "tini"
    tini.write_text('#!/bin/sh\nshift\nfor word; do echo "[$word]"; done\n')
    tini.chmod(0o755)

    def run(*command: str, **variables: str) -> list[str]:
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
        answer = subprocess.run(
            ["sh", ENTRY_POINT, *command], env=environment, capture_output=True, text=True, check=True
        )
        return [line[1:-1] for line in answer.stdout.splitlines()]

    return run


def test_variables_in_an_exec_form_command_are_filled_in(words):
    command = ["torchserve", "--start", "--models=$MODEL_NAME.mar"]
    assert words(*command, MODEL_NAME="gpt2") == [
        *("torchserve", "--start", "--models=gpt2.mar", "--foreground"),
    ]


def test_a_command_in_one_string_is_split(words):
    assert words("torchserve --start --model-store /models --models 'my net'=a.mar") == [
        *("torchserve", "--start", "--model-store", "/models", "--models", "my net=a.mar", "--foreground"),
    ]


def test_a_word_of_flag_and_value_is_split(words):
    assert words("torchserve", "--start", "--model-store /models") == [
        *("torchserve", "--start", "--model-store", "/models", "--foreground"),
    ]


def test_an_address_with_an_ampersand_stays_one_word(words):
    model = "m=https://example.org/m.mar?a=1&b=2"
    assert words("torchserve", "--start", "--models", model)[3] == model


def test_other_commands_keep_their_words(words):
    assert words("sh", "-c", "echo $HOME; ls") == ["sh", "-c", "echo $HOME; ls"]


# In the place of `torchserve`: a server in the background, whose end leaves a mark.
TORCHSERVE = """#!/bin/sh
case "$1" in
--start)
    sh -c 'trap "touch ended; exit" USR1; touch serving; while :; do sleep 0.05; done' </dev/null >/dev/null &
    echo $! >"$TEMP/.model_server.pid"
    ;;
--stop) kill -USR1 "$(cat "$TEMP/.model_server.pid")" ;;
esac
"""
TINI = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
Container = subprocess.Popen[bytes]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Starts a command as in a container, in a folder of its own and a group of processes of its own."""
    for name, text in (("tini", TINI), ("torchserve", TORCHSERVE)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TEMP": str(tmp_path), "NAME": "made"}
    started = []

    def start(*command: str) -> Container:
        made = subprocess.Popen(
            ["sh", ENTRY_POINT, *command], cwd=tmp_path, env=environment, start_new_session=True
        )
        started.append(made)
        return made

    yield start
    for made in started:
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == made.pid:
                    process.kill()
        made.wait(60)


SCRIPTS = {
    "one string": ("torchserve --start --ncs && echo started >$NAME",),
    "one string that begins otherwise": ("echo started >$NAME && torchserve --start --ncs",),
    "a shell": ("bash", "-c", "echo started >$NAME; torchserve --start"),
    "a script": ("./start.sh",),
    "a script in a shell": ("bash", "./start.sh", "--ncs"),
}
IN_THE_BACKGROUND = pytest.mark.parametrize("command", SCRIPTS.values(), ids=SCRIPTS)


@pytest.fixture
def running(container: Callable[..., Container], tmp_path: Path, command: tuple[str, ...]) -> Container:
    """A container whose script has started a server and has ended."""
    (tmp_path / "start.sh").write_text("#!/bin/sh\ntorchserve --start\necho started >$NAME\n")
    (tmp_path / "start.sh").chmod(0o755)
    made = container(*command)
    for name in ("made", "serving"):
        wait_for((tmp_path / name).exists, 60, name)
    wait_for(lambda: _waits(made), 60, "the wait for the server's end")
    return made


def _waits(container: Container) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(each.name() == "tail" for each in psutil.Process(container.pid).children())
    return False


@IN_THE_BACKGROUND
def test_a_script_that_starts_a_server_in_the_background_keeps_its_container_until_the_server_ends(
    running: Container, tmp_path: Path
) -> None:
    assert running.poll() is None
    os.kill(int((tmp_path / ".model_server.pid").read_text()), signal.SIGKILL)
    running.wait(60)


@IN_THE_BACKGROUND
def test_a_container_that_is_stopped_stops_the_server_of_its_script(
    running: Container, tmp_path: Path
) -> None:
    tail = psutil.Process(running.pid).children()
    for process in (*tail, running):  # as `tini -g` does, in any order
        process.send_signal(signal.SIGTERM)
    running.wait(60)
    wait_for((tmp_path / "ended").exists, 60, "the end of the server")


def test_a_script_without_a_server_ends_its_container_with_its_status(
    container: Callable[..., Container], tmp_path: Path
) -> None:
    (tmp_path / "job.sh").write_text("exit $1\n")
    assert container("sh", "job.sh", "0").wait(60) == 0
    assert container("sh", "job.sh", "7").wait(60) == 7
