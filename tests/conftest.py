"""Fixtures that start the real thing: a real Valkey, real servers, real archives."""

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import redis
import support
from gate import Gate, closed
from shared_server import SharedServer
from support import RunningServer

from archive.packing.writer import ArchiveSpec, write
from marq.host.embedded_redis import EmbeddedServer

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would everything that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Servers of tests that run at the same time would want the same ports. Tests of gRPC switch it on for theirs.
os.environ["MARQ_ENABLE_GRPC"] = "false"

# The five seconds that httpx allows are too few for a machine that has much else to do.
for _limit in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _limit, 60.0)
# It reads all certificates of the host, 30 ms for each call of httpx.get: one context does for all.
httpx._transports.default.create_ssl_context = lru_cache(httpx._transports.default.create_ssl_context)

# An example may take long on a busy machine.
hypothesis.settings.register_profile("marq", deadline=None)
hypothesis.settings.load_profile("marq")


def pytest_collection() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """Thousands of tests and modules stay until the end: collections need not look at them again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _same_path() -> Iterator[None]:
    """A directory of plugins that a test loads is not there for the next one."""
    # Not with `monkeypatch`: whatever a test patches would last until after its other fixtures have ended.
    before = sys.path
    sys.path = [*before]
    yield
    sys.path = before


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(_redis: EmbeddedServer) -> str:
    """The URL of a real Valkey whose database is empty."""
    with redis.Redis.from_url(_redis.url) as client:
        client.flushall()
    return _redis.url


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """All that redis-py has sent since: a command or a whole pipeline is one element."""
    sent: list[object] = []
    send = redis.connection.AbstractConnection.send_packed_command

    def count(self: Any, command: Any, *args: Any, **options: Any) -> None:
        sent.append(command)
        send(self, command, *args, **options)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", count)
    return sent


StartServer = Callable[..., RunningServer]


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers that end with the module: start_server(model_store, ["noop.mar"], job_queue_size=10)."""
    servers: list[RunningServer] = []

    def start(
        model_store: Path, models: list[str] | str = "all", arguments: list[str] | None = None, **config: Any
    ) -> RunningServer:
        directory = tmp_path_factory.mktemp("server")
        server = support.start_server(
            directory, model_store, models, arguments or ["--disable-token-auth"], config
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.ask_to_stop()
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServer]:
    """The one server of this process for all modules whose subject is not the server itself."""
    store, directory = tmp_path_factory.mktemp("shared-store"), tmp_path_factory.mktemp("shared-server")
    server = support.start_server(directory, store, [], ["--disable-token-auth", "--enable-model-api"], {})
    yield SharedServer(server, store)
    server.stop()


@pytest.fixture(scope="module")
def serve_models(shared_server: SharedServer) -> Iterator[Callable[..., RunningServer]]:
    """Serves archives with the shared server until the module ends: serve_models(folder, ["noop.mar"])."""
    yield shared_server.serve
    shared_server.clear()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for the handler of this test; it opens at the end in any case."""
    with closed(tmp_path / "gate") as gate:
        yield gate


MakeArchive = Callable[..., Path]


@pytest.fixture(scope="module")
def make_archive(tmp_path_factory: pytest.TempPathFactory) -> MakeArchive:
    """Packs a handler's source: make_archive(store, "echo", source, config={"batchSize": 4}) -> the .mar."""

    def make(
        store: Path, name: str, source: str, config: dict[str, Any] | None = None, version: str = "1.0"
    ) -> Path:
        sources = tmp_path_factory.mktemp(name)
        handler = sources / f"{name}_handler.py"
        handler.write_text(source)
        config_file = None
        if config is not None:
            config_file = sources / "model-config.yaml"
            config_file.write_text(json.dumps(config))  # JSON is YAML
        store.mkdir(parents=True, exist_ok=True)
        return write(
            ArchiveSpec(
                model_name=name, handler=str(handler), version=version, export_path=store, force=True,
                config_file=str(config_file) if config_file else None,
            )
        )  # fmt: skip

    return make
