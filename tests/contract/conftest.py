"""A real server with the model `tell`, whose handler does what the request's text says.

Files without SETTINGS share one; the others start their own.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import support
from contract import DEFAULTS, TELL, forget_models, pack
from support import RunningServer

CONFIG = {"responseTimeout": 3, "maxAttempts": 1}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with `tell.mar` (1.0) and `tell2.mar` (2.0)."""
    store: Path = tmp_path_factory.mktemp("store")
    pack(store, "tell", TELL, CONFIG, "2.0").rename(store / "tell2.mar")
    pack(store, "tell", TELL, CONFIG)
    return store


@pytest.fixture(scope="session")
def usual_server(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[RunningServer]:
    config = {**DEFAULTS, "default_workers_per_model": 1}
    directory = tmp_path_factory.mktemp("server")
    server = support.start_server(directory, store, ["tell.mar"], ["--disable-token-auth"], config)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def start(start_server, store):
    """Starts a server with the model `tell`: start(max_request_size=1000)."""

    def start(models=("tell.mar",), **config):
        config = {**DEFAULTS, "default_workers_per_model": 1, **config}
        server = start_server(store, list(models), **config)
        if "tell.mar" in models:
            server.wait_until_ready("tell")
        return server

    return start


@pytest.fixture(scope="module")
def server(start, request):
    """The file's server; its settings are the file's SETTINGS."""
    if settings := getattr(request.module, "SETTINGS", None):
        yield start(**settings)
        return
    server = request.getfixturevalue("usual_server")
    server.wait_until_ready("tell")
    yield server
    forget_models(server)


@pytest.fixture(scope="module")
def inference(server):
    with httpx.Client(base_url=server.inference, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def management(server):
    with httpx.Client(base_url=server.management, timeout=60) as client:
        yield client
