"""Absurd numbers of replicas: the server outlives them, and does what the next request says."""

import os
from pathlib import Path

import handlers
import httpx
import psutil
import pytest
from support import RunningServer, wait_for


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", handlers.ECHO)
    running: RunningServer = serve_models(store)
    return running


def scale(server: RunningServer, query: str) -> None:
    httpx.put(f"{server.management}/models/echo?{query}").raise_for_status()


def replicas(server: RunningServer) -> int:
    """The processes of replicas."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    return sum("workers.replica" in _command(process) for process in found)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_a_typing_error_in_a_size_is_mended_by_the_next_request(server):
    # Given a model that is to have 5,000 replicas
    scale(server, "min_worker=5000&force=true")
    wait_for(lambda: len(server.workers("echo")) > (os.cpu_count() or 1), what="some of them", log=server.log)
    # When it is to have one
    scale(server, "min_worker=1")
    # Then it has one, which answers
    wait_for(lambda: len(server.workers("echo")) == 1, what="one replica", log=server.log)
    wait_for(lambda: replicas(server) == 1, what="the end of the others", log=server.log)
    server.wait_until_ready("echo")
    assert server.predict("echo", b"x").content == b"x"
