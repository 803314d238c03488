import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import redis
from support import wait_for

from marq.connections import clients
from marq.errors import RedisUnavailable
from marq.host.embedded_redis import EmbeddedServer


@pytest.fixture
def server(tmp_path):
    server = EmbeddedServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def socket_of(server) -> Path:
    return Path(server.url.rpartition("@")[2].partition("?")[0])


def process_of(server) -> psutil.Process:
    with clients.client(server.url) as client:
        return psutil.Process(client.info("server")["process_id"])


@pytest.mark.parametrize("way", ["socket", "port"])
def test_it_answers_only_who_knows_the_password(server, way):
    before, after = {
        "socket": ("unix://", f"{socket_of(server)}?db=0"),
        "port": ("redis://", f"127.0.0.1:{server._port}/0"),
    }[way]
    with clients.client(f"{before}:{server._password}@{after}") as client:
        assert client.ping()
    with clients.client(f"{before}{after}") as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with (
        clients.client(f"{before}:{server._password}x@{after}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_it_listens_on_loopback_and_its_socket_alone(server):
    process = process_of(server)
    listening = [item.laddr for item in process.net_connections() if item.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", server._port)]
    assert {item.laddr for item in process.net_connections("unix")} - {""} == {str(socket_of(server))}


def test_its_url_names_the_socket_in_its_directory():
    with tempfile.TemporaryDirectory() as directory:  # short enough everywhere
        server = EmbeddedServer(Path(directory))
        path = Path(directory).resolve() / "valkey.sock"
        assert server.url == f"unix://:{server._password}@{path}?db=0"


def test_a_directory_too_long_for_a_socket_gets_one_in_the_temporary_directory(tmp_path):
    # Given a directory whose path is longer than a socket's may be
    directory = tmp_path / ("x" * 100)
    servers = [EmbeddedServer(directory) for _ in range(2)]
    # Then each server's socket is in the temporary directory, under a name of its own
    assert [socket_of(server).parent for server in servers] == [Path(tempfile.gettempdir())] * 2
    assert socket_of(servers[0]) != socket_of(servers[1])
    # And it works, is the user's alone, and is gone with the server
    server = servers[0]
    server.start()
    with clients.client(server.url) as client:
        assert client.config_get("dir") == {"dir": str(directory)}
    assert socket_of(server).stat().st_mode == stat.S_IFSOCK | 0o700
    server.stop()
    assert not socket_of(server).exists()


def test_passwords_are_long_and_never_the_same(tmp_path):
    passwords = {EmbeddedServer(tmp_path).url.split("@")[0] for _ in range(3)}
    assert len(passwords) == 3
    assert min(map(len, passwords)) > 30


def test_its_files_are_the_users_alone(server, tmp_path):
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path, *tmp_path.rglob("*"))}
    assert (modes["redis"], modes["valkey.conf"]) == (0o700, 0o600)
    assert socket_of(server).stat().st_mode == stat.S_IFSOCK | 0o700


def test_data_survive_a_restart_under_the_same_url(server):
    with clients.client(server.url) as client:
        client.set("k", "v")
    server.stop()
    assert server.has_ended
    server.start()
    assert not server.has_ended
    with clients.client(server.url) as client:
        assert client.get("k") == b"v"


def test_data_survive_a_kill_and_are_there_for_the_next_server(server, tmp_path):
    # Given data
    with clients.client(server.url) as client:
        client.set("k", "v")
    # When the server is killed and another is started on its directory
    process_of(server).kill()
    wait_for(lambda: server.has_ended)
    other = EmbeddedServer(tmp_path / "redis")
    other.start()
    # Then it has them, under a password of its own
    with clients.client(other.url) as client:
        assert client.get("k") == b"v"
    assert other.url != server.url
    other.stop()


def test_a_stop_ends_the_process_at_once(server):
    process = process_of(server)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 30
    assert not process.is_running()
    server.stop()


def test_what_was_never_started_can_be_stopped(tmp_path):
    EmbeddedServer(tmp_path).stop()


def test_a_server_that_cannot_start_names_its_log(tmp_path):
    # Given a file where its append-only directory should be
    (tmp_path / "appendonlydir").touch()
    server = EmbeddedServer(tmp_path)
    with pytest.raises(RedisUnavailable, match=f"did not start; see {tmp_path}/valkey.log"):
        server.start()
    assert "append-only dir appendonlydir" in (tmp_path / "valkey.log").read_text()
    assert server.has_ended


def test_a_server_whose_port_is_taken_does_not_start(tmp_path):
    server = EmbeddedServer(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server._port))
        taken.listen()
        with pytest.raises(RedisUnavailable, match="did not start"):
            server.start()
    assert "Address already in use" in (tmp_path / "valkey.log").read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
def test_it_does_not_outlive_a_killed_parent(tmp_path):
    # Given a process that has started a server
    code = (
        "import sys, time; from pathlib import Path; from marq.host.embedded_redis import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1])); server.start(); print(server.url, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    url = parent.stdout.readline().strip()
    with clients.client(url) as client:
        process = psutil.Process(client.info("server")["process_id"])
    # When it is killed
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    # Then the server ends too
    process.wait(60)
