"""Starting and stopping, as a person at a terminal sees it."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
from ports import free_port
from support import MARQ, RunningServer

import marq


@pytest.fixture(scope="module")
def store(make_archive, tmp_path_factory) -> Path:
    directory: Path = tmp_path_factory.mktemp("store")
    make_archive(directory, "echo", handlers.ECHO, {"minWorkers": 1, "maxWorkers": 1})
    return directory


def start(*arguments: object, state_dir: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [MARQ, "start", *map(str, arguments), "--state-dir", str(state_dir), "--disable-token-auth"]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def server(start_server, store: Path) -> RunningServer:
    """The server of several tests, of which the last stops it."""
    running: RunningServer = start_server(store)
    running.wait_until_ready("echo")
    return running


@pytest.mark.slow
def test_jobs_and_registrations_survive_a_restart(start_server, store: Path, tmp_path: Path) -> None:
    server: RunningServer = start_server(store)
    server.wait_until_ready("echo")
    with marq.Client(server.redis_url) as client:
        job_id = client.submit("echo", {"kept": True}).id
        client.result(job_id, timeout=60)
    server.stop()
    environment = server.environment
    ports = ["--ts-config", str(server.log.with_name("config.properties"))]
    again = subprocess.Popen(
        [MARQ, "start", "--model-store", store, "--models", "echo.mar", "--disable-token-auth", *ports],
        env=environment, cwd=server.log.parent, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        restarted = RunningServer(
            again, server.state_dir, server.inference, server.management, server.log, environment
        )
        restarted_ready = time.monotonic() + 100
        while time.monotonic() < restarted_ready:
            try:
                answer = httpx.get(f"{server.inference}/jobs/{job_id}/result")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert answer.json() == {"kept": True}
        restarted.wait_until_ready("echo")
    finally:
        again.send_signal(signal.SIGTERM)
        assert again.wait(60) == 0


def test_a_second_start_in_the_same_state_directory_says_so_and_changes_nothing(
    server: RunningServer, store: Path
) -> None:
    ports = ["--ts-config", server.log.with_name("config.properties")]
    second = start("--model-store", store, *ports, state_dir=server.state_dir)
    assert second.returncode == 1
    assert "already running" in second.stderr
    assert str(server.process.pid) in second.stderr
    assert httpx.get(f"{server.inference}/ping").status_code == 200


def test_a_taken_port_is_named_and_nothing_is_left_running(store: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "config.properties"
        config.write_text(
            f"inference_address=http://127.0.0.1:{port}\nmanagement_address=http://127.0.0.1:{free_port()}\n"
        )
        done = start("--model-store", store, "--ts-config", config, state_dir=tmp_path / "state")
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert left == []


def test_a_redis_that_is_not_there_is_named_without_its_password_at_once(store: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.properties"
    config.write_text(
        f"inference_address=http://127.0.0.1:{free_port()}\nmanagement_address=http://127.0.0.1:{free_port()}\n"
        "enable_metrics_api=false\n"
    )
    url = f"redis://:secret-word@127.0.0.1:{free_port()}/0"
    began = time.monotonic()
    done = start(
        "--model-store", store, "--ts-config", config, "--redis-url", url, state_dir=tmp_path / "state"
    )
    assert time.monotonic() - began < 50
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "secret-word" not in done.stderr + done.stdout


def test_a_killed_gateway_and_a_killed_node_are_replaced(server: RunningServer) -> None:
    children = psutil.Process(server.process.pid).children()
    for child in children:
        if child.cmdline()[-1:] in (["gateway"], ["workers.node"]):
            os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 100
    answer = None
    while time.monotonic() < deadline and answer is None:
        try:
            answer = server.predict("echo", b"again")
        except httpx.TransportError:
            time.sleep(0.1)
    assert answer is not None
    assert answer.content == b"again"


def test_ctrl_c_ends_everything_in_order(server: RunningServer) -> None:
    # Given a server that has served
    server.wait_until_ready("echo")
    assert server.predict("echo", b"x").content == b"x"
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) >= 5  # Valkey, gateway, node, pool, replica
    # When it gets Ctrl-C
    code = server.stop()
    # Then it ends with code 0 and leaves no process
    assert code == 0
    assert [process for process in family if process.is_running()] == []
