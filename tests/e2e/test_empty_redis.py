"""Redis comes back empty: FLUSHALL, or a start without its file."""

import json
import signal
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
import redis
from support import RunningServer, wait_for

from marq.registry.token_store import KEY_FILE


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", handlers.ECHO, {"minWorkers": 1, "maxWorkers": 1})
    make_archive(store, "other", handlers.ECHO)
    running: RunningServer = start_server(store, ["echo.mar"], ["--enable-model-api"])
    return running


@pytest.fixture
def tokens(server):
    """Finds the current tokens, as a client does: tokens()["inference"]."""

    def read() -> dict[str, dict[str, str]]:
        stored = json.loads((server.log.parent / KEY_FILE).read_text())
        return {plane: {"Authorization": f"Bearer {each['key']}"} for plane, each in stored.items()}

    return read


def flush(server: RunningServer) -> None:
    with redis.Redis.from_url(server.redis_url) as client:
        client.flushall()


def pids(server: RunningServer) -> set[int]:
    """The replicas of all models."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    return {process.pid for process in found if "workers.replica" in _command(process)}


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
def test_models_and_tokens_are_there_again_and_replicas_go_on(server, tokens):
    # Given a start-up model and one that was registered since, with two replicas
    before = tokens()
    api = httpx.Client(base_url=server.management, headers=before["management"], timeout=60)
    api.post("/models?url=other.mar&initial_workers=2&synchronous=true").raise_for_status()

    def predict(model: str) -> int:
        url = f"{server.inference}/predictions/{model}"
        # One that Redis loses is not waited for until the gateway notices
        headers = {**before["inference"], "X-Request-Timeout": "3"}
        return httpx.post(url, content=b"x", headers=headers, timeout=60).status_code

    wait_for(lambda: predict("echo") == predict("other") == 200, what="both models")
    running = pids(server)
    assert len(running) == 3
    # When Redis loses everything
    flush(server)
    # Then both answer again, to clients with the tokens of before, from the same replicas
    wait_for(lambda: predict("echo") == predict("other") == 200, what="both models", log=server.log)
    wait_for(lambda: len(api.get("/models").json()["models"]) == 2, what="the list of models")
    [other] = api.get("/models/other").raise_for_status().json()
    assert other["minWorkers"] == 2
    assert pids(server) == running
    assert tokens() == before
    ready = f"{server.inference}/v2/health/ready"
    wait_for(
        lambda: httpx.get(ready, headers=before["inference"]).json() == {"ready": True}, what="readiness"
    )
    # And the control plane works: sizes follow
    api.put("/models/other?min_worker=1&synchronous=true").raise_for_status()
    wait_for(lambda: len(pids(server)) == 2, what="one replica less", log=server.log)


@pytest.mark.slow
def test_ping_is_unhealthy_while_redis_does_not_answer(server, tokens):
    headers = tokens()["inference"]

    def ping() -> int:
        return httpx.get(f"{server.inference}/ping", headers=headers).status_code

    wait_for(lambda: ping() == 200, what="health")
    valkey = next(
        process
        for process in psutil.Process(server.process.pid).children()
        if "valkey" in " ".join(process.cmdline()[:1]) or "redis-server" in " ".join(process.cmdline()[:1])
    )
    valkey.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: ping() == 500, what="Unhealthy", log=server.log)
    finally:
        valkey.send_signal(signal.SIGCONT)
    wait_for(lambda: ping() == 200, what="health again", log=server.log)
