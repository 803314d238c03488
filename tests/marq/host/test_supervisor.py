"""How a server is set up. Its last step is `exec`, in whose place an exception is raised here."""

import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import redis
from ports import free_port
from thread_replica import make_spec

from marq.connections import clients
from marq.errors import RedisUnavailable
from marq.host import server_file, sockets
from marq.host.directories import AlreadyRunning
from marq.host.processes import SERVER_ENDS
from marq.host.supervisor import STARTED, Supervisor
from marq.host.watcher import Plan, Program
from marq.registry.models import Registry
from marq.settings.fields import Settings
from marq.settings.properties import SettingsError


class Executed(Exception):
    """Raised in place of `exec`."""


@dataclass
class SetUp:
    """A server as it was when its supervisor would have become the watcher."""

    stages: list[list[Program]]
    lines: list[str]  # for the user
    server: server_file.Server

    @property
    def names(self) -> list[list[str]]:
        return [[program.name for program in stage] for stage in self.stages]


@pytest.fixture
def make_settings(tmp_path, monkeypatch, redis_url):
    """Settings of a server with Unix sockets, whose key file goes to the test's directory."""
    monkeypatch.chdir(tmp_path)

    def make(**given) -> Settings:
        planes = ("inference", "management", "metrics")
        addresses = {f"{plane}_address": f"unix:{tmp_path / plane}" for plane in planes}
        known = {"redis_url": redis_url, "state_dir": tmp_path / "state", "gateway_workers": 2, **addresses}
        known["enable_grpc"] = False
        return Settings(**known | given)

    return make


@pytest.fixture
def set_up(make_settings, monkeypatch):
    """Sets up a server; `then` is called before its supervisor fails."""

    def set_up(joins=False, then=lambda: None, **given) -> SetUp:
        lines: list[str] = []
        found: list[SetUp] = []

        def execute(plan: Plan) -> None:
            then()
            server = server_file.Server(**json.loads(Path(plan.server_file).read_text()))
            found.append(SetUp(plan.stages, lines, server))
            raise Executed

        monkeypatch.setattr(Plan, "execute", execute)
        with pytest.raises(Executed):
            Supervisor(make_settings(**given), lines.append, joins).run()
        return found[0]

    return set_up


def test_a_server_is_gateways_and_a_node(set_up, redis_url):
    found = set_up()
    assert found.names == [["gateway 0", "gateway 1"], ["node"]]
    gateways, [node] = found.stages
    assert [gateway.environment[sockets.GATEWAY_VARIABLE] for gateway in gateways] == ["0", "1"]
    for program in (*gateways, node):
        assert program.environment["MARQ_REDIS_URL"] == redis_url
    assert [len(program.descriptors) for program in (*gateways, node)] == [3, 3, 0]
    stops = [program.stop_signal for program in (*gateways, node)]
    assert stops == [SERVER_ENDS, SERVER_ENDS, signal.SIGTERM]
    assert found.server.pid == os.getpid()
    assert found.server.redis_url == redis_url


def test_a_gateway_that_joins_others_has_no_node(set_up):
    assert set_up(joins=True).names == [["gateway 0", "gateway 1"]]


def test_without_a_redis_the_server_has_its_own_which_ends_last(set_up):
    found = set_up(redis_url="")
    assert found.names[-1] == ["Redis server"]
    [embedded] = found.stages[-1]
    [node] = found.stages[-2]
    assert embedded.pid
    assert node.environment["MARQ_REDIS_URL"] == found.server.redis_url != ""


def test_a_server_that_fails_to_start_leaves_nothing_behind(set_up, tmp_path):
    found = set_up(redis_url="")
    assert not psutil.pid_exists(found.stages[-1][0].pid)
    assert not (tmp_path / "state" / server_file.FILE_NAME).exists()


def test_the_user_reads_the_addresses_and_at_last_that_it_has_started(set_up, tmp_path):
    lines = set_up().lines
    assert [line.split()[0] for line in lines] == [
        "Redis",
        "Tokens",
        "Inference",
        "Management",
        "Metrics",
        "Logs",
        "No",
        "Model",
    ]
    assert f"Inference API   unix:{tmp_path / 'inference'}" in lines
    assert lines[-1] == STARTED


def test_the_password_of_redis_is_not_shown(set_up):
    assert set_up(redis_url="").lines[0].startswith("Redis           unix://:***@")


def test_without_metrics_there_is_no_address_for_them(set_up):
    found = set_up(enable_metrics_api=False)
    assert not [line for line in found.lines if line.startswith("Metrics")]
    assert found.server.metrics_address == ""
    assert len(found.stages[0][0].descriptors) == 2


def test_one_address_may_serve_all(set_up, tmp_path):
    shared = f"unix:{tmp_path / 'shared'}"
    found = set_up(inference_address=shared, management_address=shared, metrics_address=shared)
    assert len(found.stages[0][0].descriptors) == 1
    assert f"Metrics API     {shared}" in found.lines


def test_without_authorization_there_are_no_tokens(set_up, tmp_path):
    found = set_up(disable_token_auth=True)
    assert found.server.token == ""
    assert not (tmp_path / "key_file.json").exists()


def test_the_servers_file_is_the_users_alone(set_up, tmp_path):
    modes: list[int] = []
    path = tmp_path / "state" / server_file.FILE_NAME
    found = set_up(then=lambda: modes.append(path.stat().st_mode & 0o777))
    assert modes == [0o600]
    assert found.server.token


def test_a_second_server_of_a_state_directory_is_refused(set_up, make_settings):
    def start_another() -> None:
        other = make_settings(inference_address="http://127.0.0.1:1")
        with pytest.raises(AlreadyRunning, match=rf"already running .* \(pid {os.getpid()}\)"):
            Supervisor(other, print).run()

    set_up(then=start_another)
    set_up()  # the first one has ended


def test_a_taken_port_ends_the_start(make_settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(sockets.PortTaken):
            Supervisor(make_settings(management_address=address), print).run()


def test_a_state_directory_that_cannot_be_made_ends_the_start(make_settings, tmp_path):
    (tmp_path / "file").touch()
    settings = make_settings(state_dir=tmp_path / "file/state")
    with pytest.raises(
        SettingsError, match=r"state directory .*file/state cannot be written: .* --state-dir"
    ):
        Supervisor(settings, print).run()


def test_a_redis_that_does_not_answer_ends_the_start(make_settings, tmp_path):
    with pytest.raises(RedisUnavailable):
        Supervisor(make_settings(redis_url=f"redis://127.0.0.1:{free_port()}"), print).run()
    assert not (tmp_path / "state" / server_file.FILE_NAME).exists()


def test_a_snapshot_that_names_a_missing_archive_ends_the_start(make_settings, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    snapshot = {"modelCount": 1, "models": {"m": {"1.0": {"defaultVersion": True, "marName": "gone.mar"}}}}
    settings = make_settings(model_snapshot=json.dumps(snapshot), model_store=store)
    with pytest.raises(SettingsError, match=r"file for model :m, version :1\.0 not found"):
        Supervisor(settings, print).run()


def test_an_archive_that_cannot_be_loaded_is_reported_once_and_the_server_starts(set_up, tmp_path, caplog):
    store = tmp_path / "store"
    store.mkdir()
    lines = set_up(model_store=store, models="gone.mar").lines
    told = [
        text for text in (*lines, *caplog.messages) if text.startswith("Failed to load model: gone.mar: ")
    ]
    assert len(told) == 1
    assert lines[-1] == STARTED


def test_a_server_without_models_names_the_cure(set_up, tmp_path):
    assert any(line.startswith("No models: give --model-store DIR") for line in set_up().lines)
    (tmp_path / "store").mkdir()
    lines = set_up(model_store=tmp_path / "store").lines
    assert any("has no archives" in line for line in lines)
    (tmp_path / "store/cat.mar").touch()
    lines = set_up(model_store=tmp_path / "store").lines
    assert f"No models: {tmp_path}/store has cat.mar. Give --models cat.mar, or --models all." in lines
    lines = set_up(model_store=tmp_path / "store", models="gone.mar").lines
    assert f"No models: none of --models could be loaded. {tmp_path}/store has cat.mar." in lines


@pytest.mark.parametrize("has_tokens", [False, True])
def test_the_user_reads_what_is_served_and_a_request_to_paste(set_up, make_archive, tmp_path, has_tokens):
    # Given a model
    make_archive(
        tmp_path / "store", "echo", "def handle(data, context):\n    return data\n", {"minWorkers": 2}
    )
    # When a server of it starts
    given = {"model_store": tmp_path / "store", "models": "all", "disable_token_auth": not has_tokens}
    lines = set_up(inference_address=f"http://127.0.0.1:{free_port()}", **given).lines
    # Then the user reads its name and size, and a command that a shell understands
    assert "Model           echo 1.0 from echo.mar, 2 replicas" in lines
    [command] = [line.removeprefix("Try").strip() for line in lines if line.startswith("Try")]
    shown = subprocess.run(
        ["bash", "-c", f"curl() {{ printf '%s\\n' \"$@\"; }}; {command}"], capture_output=True, text=True
    )
    assert shown.stderr == ""
    words = shown.stdout.splitlines()
    assert words[-2:] == ["-T", "FILE"]
    assert words[-3].endswith("/predictions/echo")
    if has_tokens:
        keys = json.loads((tmp_path / "key_file.json").read_text())
        assert f"Authorization: Bearer {keys['inference']['key']}" in words
    assert f"Logs            {tmp_path}/state/logs" in lines


@pytest.mark.parametrize(
    ("given", "kept"),
    [({}, True), ({"forget_models": True}, False), ({"forget_models": True, "joins": True}, True)],
)
def test_models_that_were_registered_over_http_stay_unless_they_are_forgotten(set_up, redis_url, given, kept):
    # Given a model of an earlier start
    def registered() -> bool:
        with clients.client(redis_url) as client:
            return "echo" in Registry(client).models().specs

    with redis.Redis.from_url(redis_url) as client:
        Registry(client).register(make_spec())
    # When a server starts
    set_up(**given)
    # Then
    assert registered() is kept
