"""The tokens of a server that starts, and the key file in its directory, which other servers may share."""

import json
import os
import subprocess
import sys

import pytest

from marq import keys
from marq.host import key_file
from marq.registry import token_store
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.settings.fields import Settings
from marq.settings.properties import SettingsError
from marq.token_planes import INFERENCE


@pytest.fixture
def start(client, redis_url, tmp_path, monkeypatch):
    """Does what a server that starts in the test's directory does; returns the lines for the user."""
    monkeypatch.chdir(tmp_path)

    def start(joins: bool = False) -> list[str]:
        return list(key_file.write(Settings(redis_url=redis_url), client, joins))

    return start


@pytest.fixture
def tokens(tmp_path):
    """Reads the key file."""
    return lambda: json.loads((tmp_path / token_store.KEY_FILE).read_text())


def test_tokens_are_new_at_each_start_but_gateways_that_join_keep_them(start, tokens):
    start()
    first = tokens()
    start()
    second = tokens()
    assert second != first
    start(joins=True)
    assert tokens() == second


def test_a_second_server_on_a_redis_keeps_the_tokens_of_those_that_run(
    start, tokens, registry, client, tmp_path
):
    start()
    first = tokens()
    # Given a gateway of another server
    now = registry.now()
    client.zadd(keys.GATEWAYS, {"another": now})
    # Then a server that starts has the tokens that its clients have, and says so
    path = tmp_path / token_store.KEY_FILE
    path.unlink()
    assert start() == [f"Tokens          {path}, those of the servers that use this Redis"]
    assert tokens() == first
    # And new ones when that gateway has been silent for too long
    client.zadd(keys.GATEWAYS, {"another": now - HEARTBEAT_LIMIT_S - 1})
    assert start() == [f"Tokens          {path}"]
    assert tokens() != first


def test_tokens_that_have_expired_are_renewed_also_beside_another_server(start, tokens, registry, client):
    start()
    old = tokens()
    client.zadd(keys.GATEWAYS, {"another": registry.now()})
    client.hset(keys.TOKENS, f"{INFERENCE}:expires", "1")
    start()
    assert tokens()["inference"] != old["inference"]
    assert (tokens()["management"], tokens()["API"]) == (old["management"], old["API"])


@pytest.fixture
def start_gateway(tmp_path):
    """A process that looks like the gateway of another server in the test's directory."""
    started = []

    def start(redis_url: str) -> None:
        command = [sys.executable, "-c", "print('runs', flush=True); input()", "gateway"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = {**os.environ, "MARQ_REDIS_URL": redis_url}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
        started[-1].stdout.readline()

    yield start
    for process in started:
        process.communicate(b"\n")


def test_a_server_that_takes_the_key_file_of_another_one_names_it(start, start_gateway):
    start_gateway("redis://elsewhere")
    assert not [line for line in start() if line.startswith("Warning: ")]
    [warning] = [line for line in start() if line.startswith("Warning: ")]
    assert f"key_file.json has been the file of another server that runs (pid {os.getpid()})" in warning


def test_servers_of_one_redis_may_share_their_key_file(start, start_gateway, redis_url):
    start_gateway(redis_url)
    for _ in range(2):
        assert not [line for line in start() if line.startswith("Warning: ")]


def test_a_key_file_that_cannot_be_written_ends_the_start(start, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", ".key_file.json.123")

    monkeypatch.setattr(token_store, "write_key_file", refuse)
    told = rf"The tokens cannot be written to {tmp_path}/key_file.json: Permission.*--disable-token-auth"
    with pytest.raises(SettingsError, match=told):
        start()
