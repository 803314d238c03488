import json
import os
import signal
import subprocess

import psutil
import pytest
from support import MARQ, wait_for

CHATTY = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    for row in data:
        print(context.model_name, "got", bytes(row["body"]).decode(), flush=True)
    return ["ok"] * len(data)
"""


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    for name in ("a", "a-1"):
        make_archive(store, name, CHATTY, config={"minWorkers": 1, "maxWorkers": 1})
    server = start_server(store)
    for name in ("a", "a-1"):
        server.wait_until_ready(name)
    return server


def shown(server, *arguments):
    done = server.command("logs", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_models_lines_are_told_from_those_of_a_model_with_a_like_name(server):
    server.predict("a", b"one")
    server.predict("a-1", b"two")
    wait_for(lambda: "got two" in shown(server), what="the line")
    assert "a got one" in shown(server, "a")
    assert "got two" not in shown(server, "a")
    assert "a-1 got two" in shown(server, "a-1")
    assert "got one" not in shown(server, "a-1")


def test_the_last_lines_are_shown(server):
    server.predict("a", b"last")
    wait_for(lambda: "got last" in shown(server, "a", "-n", "1"), what="the line")
    assert shown(server, "a", "-n", "1").count("\n") == 1
    assert shown(server, "-n", "0") == ""


def test_lines_as_json_tell_their_parts(server):
    server.predict("a", b"parts")
    wait_for(lambda: "got parts" in shown(server), what="the line")
    entry = json.loads(shown(server, "a", "-n", "1", "--json"))
    assert entry["message"] == "a got parts"
    assert entry["level"] == "INFO"
    assert entry["pool"].startswith("a-1.0@")
    assert entry["slot"] == "0"


def has_read(pid, path):
    """Whether the process has read the file to its end."""
    read = {file.path: file.position for file in psutil.Process(pid).open_files()}
    return read.get(str(path)) == path.stat().st_size


def test_following_shows_new_lines_also_of_a_new_file_and_ends_cleanly(server):
    # Given a follower
    process = subprocess.Popen(
        [MARQ, "logs", "-f", "a", "-n", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=server.environment,
    )
    path = server.state_dir / "logs" / "model_log.log"
    wait_for(lambda: has_read(process.pid, path), what="the follower")
    # When the model prints, the file is moved away, and the model prints again
    server.predict("a", b"before")
    assert "got before" in process.stdout.readline()
    path.rename(path.with_suffix(".moved"))
    server.predict("a", b"after")
    assert "got after" in process.stdout.readline()
    # Then Ctrl-C ends it as if nothing had happened
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")


def test_logs_can_be_read_after_the_server_has_ended(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    line = "2026-01-01T00:00:00,000 [INFO ] model MODEL_LOG - [m-1.0@host/3 pid 77] hello"
    (logs / "model_log.log").write_text(f"{line}\n")
    environment = {**os.environ, "MARQ_STATE_DIR": str(tmp_path)}
    done = subprocess.run([MARQ, "logs", "m"], capture_output=True, text=True, env=environment)
    assert done.stdout == f"{line}\n"


def test_where_nothing_has_run_that_is_told(run):
    result = run("logs")
    assert result.exit_code == 1
    assert "no model has run here yet" in result.stderr


def test_a_model_that_is_unknown_is_named(run, state_dir):
    (state_dir / "logs").mkdir()
    line = "2026-01-01T00:00:00,000 [INFO ] model MODEL_LOG - [m-1.0@host/3 pid 77] hello"
    (state_dir / "logs/model_log.log").write_text(f"{line}\n")
    result = run("logs", "nope")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has no line of a model nope" in " ".join(result.stderr.split())
    assert run("logs", "m").stdout == f"{line}\n"
