"""`marq gateway`: gateways that come and go next to others, with a real Redis and a real node."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import handlers
import httpx
import pytest
import redis
from ports import free_port
from support import MARQ, wait_for

from marq import keys, token_planes
from marq.connections import clients
from marq.registry import token_store
from marq.registry.models import Registry

Gateway = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path, make_archive: Callable[..., Path]) -> Path:
    make_archive(tmp_path / "store", "square", handlers.SQUARE, config={"minWorkers": 1})
    return tmp_path / "store"


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Starts `marq COMMAND ARGUMENTS` with a directory of its own, which it returns."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str | Path, **environment: str) -> Path:
        directory = tmp_path / f"process-{len(processes)}"
        directory.mkdir()
        given = {"MARQ_REDIS_URL": redis_url, "MARQ_STATE_DIR": str(directory / "state")}
        with (directory / "log").open("wb") as output:
            processes.append(
                subprocess.Popen(
                    [MARQ, *arguments],
                    env={**os.environ, **given, **environment},
                    cwd=directory,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
        return directory

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(60)


@pytest.fixture
def gateway(start: Callable[..., Path]) -> Gateway:
    """Starts a gateway; returns its inference address and where it runs once it answers."""

    def gateway(*arguments: str | Path, **environment: str) -> tuple[str, Path]:
        names = ("INFERENCE", "MANAGEMENT", "METRICS")
        addresses = {f"MARQ_{name}_ADDRESS": f"http://127.0.0.1:{free_port()}" for name in names}
        directory = start("gateway", *arguments, MARQ_GATEWAY_WORKERS="1", **addresses, **environment)
        url = addresses["MARQ_INFERENCE_ADDRESS"]
        wait_for(lambda: _answers(url), 60, "the gateway", directory / "log")
        return url, directory

    return gateway


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping").status_code == 400  # it wants a token
    except httpx.TransportError:
        return False


def _square(url: str, directory: Path) -> httpx.Response:
    """Asks with the token of this gateway's key file."""
    key = json.loads((directory / "key_file.json").read_text())["inference"]["key"]
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/predictions/square", json=12, headers=headers, timeout=60)


def test_gateways_without_a_node_serve_what_another_process_runs(start, gateway, store):
    (first, here), (second, there) = gateway("--model-store", store, "--models", "all"), gateway()
    start("node", "--name", "elsewhere")
    assert _square(first, here).text == "144"
    assert _square(second, there).text == "144"
    assert _square(second, here).text == "144", "the gateways have different tokens"


@pytest.mark.slow
def test_a_gateway_that_comes_later_undoes_nothing(gateway, store, redis_url):
    # Given a gateway whose model an operator has scaled
    gateway("--model-store", store, "--models", "all")
    with clients.client(redis_url) as client:
        registry = Registry(client)
        registry.scale(registry.models().get("square"), 3, 3)
        before = client.hgetall(keys.TOKENS)
        # When one comes that loads the same, and one that loads nothing
        gateway("--model-store", store, "--models", "all")
        gateway()
        # Then it still has its size, and clients their tokens
        assert registry.models().get("square").min_workers == 3
        assert client.hgetall(keys.TOKENS) == before


@pytest.mark.slow
def test_a_gateway_with_other_settings_for_a_model_changes_it(gateway, store, redis_url):
    gateway("--model-store", store, "--models", "all")
    gateway("--model-store", store, "--models", "all", MARQ_DEFAULT_RESPONSE_TIMEOUT="7")
    with clients.client(redis_url) as client:
        assert Registry(client).models().get("square").response_timeout_s == 7


def test_tokens_that_have_expired_are_renewed_and_the_api_key_stays(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        token_store.ensure_tokens(client, 60)
        before = client.hgetall(keys.TOKENS)
        client.hset(keys.TOKENS, "inference:expires", 1)
        token_store.ensure_tokens(client, 60)
        after = client.hgetall(keys.TOKENS)
    changed = {
        plane
        for plane in (*token_planes.EXPIRING, token_planes.API)
        if before[plane.encode()] != after[plane.encode()]
    }
    assert changed == {"inference"}
    assert int(after[b"inference:expires"]) > 1


def test_a_gateway_needs_a_redis(run):
    assert run("gateway").exit_code == 2
    result = run("gateway", "--redis-url", "redis://:hidden@127.0.0.1:1/0", "--ts-config", "/no/such/file")
    assert result.exit_code == 1
    assert "hidden" not in result.stderr
