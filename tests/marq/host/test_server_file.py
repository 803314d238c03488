import json
import os
import subprocess
import sys

import pytest

from marq.host import server_file
from marq.host.server_file import Server, ServerNotFound


@pytest.fixture(autouse=True)
def no_address_in_the_environment(monkeypatch):
    monkeypatch.delenv("MARQ_REDIS_URL", raising=False)
    monkeypatch.delenv("MARQ_STATE_DIR", raising=False)


def server(pid: int) -> Server:
    return Server(pid, "redis://:secret@127.0.0.1:7000/0", "http://i", "http://m", token="t")


@pytest.fixture
def ended_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_running_server_is_found(tmp_path, monkeypatch):
    server_file.write(tmp_path, server(os.getpid()))
    assert server_file.find(tmp_path) == server(os.getpid())
    monkeypatch.setenv("MARQ_STATE_DIR", str(tmp_path))
    assert server_file.find() == server(os.getpid())
    assert server_file.redis_url() == "redis://:secret@127.0.0.1:7000/0"


def test_the_file_with_the_secrets_is_the_users_alone(tmp_path):
    path = tmp_path / server_file.FILE_NAME
    path.write_text("an old one")
    path.chmod(0o644)
    server_file.write(tmp_path, server(os.getpid()))
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"colour": 1}', json.dumps({**vars(server(1)), "pid": "x"})]
)
def test_a_file_that_cannot_be_read_is_no_server(tmp_path, content):
    (tmp_path / server_file.FILE_NAME).write_text(content)
    with pytest.raises(ServerNotFound):
        server_file.find(tmp_path)


def test_a_server_that_has_ended_is_not_found(tmp_path, ended_pid):
    server_file.write(tmp_path, server(ended_pid))
    with pytest.raises(ServerNotFound):
        server_file.find(tmp_path)


def test_where_no_server_runs_the_directory_and_what_to_do_are_told(tmp_path):
    with pytest.raises(ServerNotFound) as caught:
        server_file.find(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "marq start" in str(caught.value)
    assert "--state-dir" in str(caught.value)


def test_a_stopped_server_leaves_no_file(tmp_path):
    server_file.write(tmp_path, server(os.getpid()))
    server_file.remove(tmp_path)
    server_file.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_wins_over_the_server_on_this_host(tmp_path, monkeypatch):
    server_file.write(tmp_path, server(os.getpid()))
    monkeypatch.setenv("MARQ_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("MARQ_REDIS_URL", "redis://elsewhere")
    assert server_file.redis_url() == "redis://elsewhere"


def test_the_state_directory_is_given_or_the_environments_or_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert str(server_file.state_dir()) == "/xdg/marq"
    monkeypatch.setenv("MARQ_STATE_DIR", "/s")
    assert str(server_file.state_dir()) == "/s"
    assert server_file.state_dir(tmp_path) == tmp_path
