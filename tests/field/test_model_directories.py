"""Handlers that move, delete, add and overwrite files of their model directory: others do not notice."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import support
from support import RunningServer, wait_for

from archive.packing.writer import ArchiveSpec, write

WEIGHTS = b"\x01" * (17 << 20)  # large enough to be linked instead of copied
HANDLER = """
import os, pathlib


class Handler:
    def initialize(self, context):
        directory = pathlib.Path(context.system_properties["model_dir"])
        self.weights, self.notes = directory / "weights.pt", directory / "notes.txt"
        self.assets = directory / "assets.txt"
        self.found = self.assets.read_text() + str(self.weights.read_bytes()[0])
        self.assets.unlink()
        os.rename(directory / "table.csv", directory / "moved.csv")

    def handle(self, data, context):
        order = bytes(data[0]["body"]).decode()
        if order == "note":
            self.notes.write_text("noted")
        if order == "overwrite":
            with self.weights.open("r+b") as file:
                file.write(b"\\x02")
        notes = self.notes.read_text() if self.notes.exists() else ""
        return [f"{self.found} {notes}".strip()]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two archives of the same content and different names."""
    sources, store = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("store")
    (sources / "handler.py").write_text(HANDLER)
    (sources / "weights.pt").write_bytes(WEIGHTS)
    (sources / "assets.txt").write_text("assets")
    (sources / "table.csv").write_text("1,2")
    write(
        ArchiveSpec(
            model_name="first", version="1.0", handler=str(sources / "handler.py"), export_path=store,
            serialized_file=str(sources / "weights.pt"),
            extra_files=(str(sources / "assets.txt"), str(sources / "table.csv")),
        )
    )  # fmt: skip
    shutil.copy(store / "first.mar", store / "second.mar")
    return store


@pytest.fixture
def server(serve_models: Callable[..., RunningServer], store: Path) -> RunningServer:
    return serve_models(store, [])


def register(server: RunningServer, name: str, url: str) -> None:
    query: dict[str, Any] = {"url": url, "model_name": name, "initial_workers": 1, "synchronous": "true"}
    answer = httpx.post(f"{server.management}/models", params=query, timeout=60)
    assert answer.status_code == 200, answer.text


def unregister(server: RunningServer, *names: str) -> None:
    for name in names:
        httpx.delete(f"{server.management}/models/{name}", timeout=60).raise_for_status()


def test_two_names_of_one_archive_have_a_directory_each(server: RunningServer) -> None:
    register(server, "a", "first.mar")
    register(server, "b", "second.mar")
    assert server.predict("a", b"note").text == "assets1 noted"
    assert server.predict("b").text == "assets1"
    unregister(server, "a", "b")


def test_a_model_that_is_registered_again_finds_its_archive_complete(server: RunningServer) -> None:
    for _ in range(2):
        register(server, "a", "first.mar")
        assert server.predict("a", b"note").text == "assets1 noted"
        unregister(server, "a")


def test_a_replica_that_replaces_the_only_one_finds_its_archive_complete_and_what_was_added(
    server: RunningServer,
) -> None:
    register(server, "a", "first.mar")
    assert server.predict("a", b"note").text == "assets1 noted"
    replica = psutil.Process(server.workers("a")[0]["pid"])
    replica.kill()
    wait_for(lambda: not replica.is_running(), what="the end of the replica")
    assert server.predict("a").text == "assets1 noted"
    unregister(server, "a")


def test_weights_that_a_handler_overwrites_are_as_packed_for_the_next_registration(
    server: RunningServer,
) -> None:
    register(server, "a", "first.mar")
    server.predict("a", b"overwrite")
    unregister(server, "a")
    register(server, "a", "first.mar")
    assert server.predict("a").text == "assets1"
    unregister(server, "a")


def test_large_weights_are_not_copied(server: RunningServer) -> None:
    register(server, "a", "first.mar")
    register(server, "b", "first.mar")
    found = [*server.state_dir.glob("model-dirs/*/weights.pt"), *server.state_dir.glob("models/*/weights.pt")]
    copies = [path for path in found if path.stat().st_size == len(WEIGHTS)]  # not those of other tests
    assert len(copies) == 3
    assert len({path.stat().st_ino for path in copies}) == 1
    unregister(server, "a", "b")


@pytest.mark.slow
def test_a_model_is_complete_after_a_restart_of_the_server(store: Path, tmp_path: Path) -> None:
    for _ in range(2):  # with the same state directory
        server = support.start_server(tmp_path, store, "first.mar", ["--disable-token-auth"], {})
        try:
            server.wait_until_ready("first")
            assert server.predict("first", b"note").text == "assets1 noted"
        finally:
            server.stop()
