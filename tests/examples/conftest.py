"""One server for all examples, which other tests share; each registers its model there."""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from shared_server import SharedServer
from support import RunningServer

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.hookimpl(tryfirst=True)  # before the choice by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these are slow: each example trains, packs and serves a model."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are small: on busy cores more threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class Host:
    """A running server and its model store."""

    server: RunningServer
    store: Path

    def register(self, archive: Path) -> str:
        """Registers an archive of the store with one replica; returns the model's name when it is ready."""
        query = {"url": archive.name, "initial_workers": 1, "synchronous": "true"}
        answer = httpx.post(f"{self.server.management}/models", params=query, timeout=60)
        assert answer.status_code == 200, f"{answer.text}\n{self._model_log()}"
        return archive.name.partition(".")[0]

    def predict(self, model: str, body: bytes = b"", content_type: str | None = None, **options: Any) -> Any:
        headers = {"Content-Type": content_type} if content_type else {}
        return self.server.predict(model, body, headers={**headers, **options.pop("headers", {})}, **options)

    def _model_log(self) -> str:
        log = self.server.state_dir / "logs/model_log.log"
        return log.read_text() if log.is_file() else self.server.log.read_text()


@pytest.fixture(scope="module")
def host(shared_server: SharedServer) -> Iterator[Host]:
    """The server; what a module registers is unregistered at its end."""
    yield Host(shared_server.server, shared_server.store)
    shared_server.clear()


@pytest.fixture(scope="module")
def load_example() -> Iterator[Callable[..., SimpleNamespace]]:
    """The modules of an example as its scripts import them: load_example("eager", "model", "pack").

    Their plain names are free again when the test module ends.
    """
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:

        def load(folder: str, *modules: str) -> SimpleNamespace:
            patch.syspath_prepend(str(EXAMPLES / folder))
            for name in modules:  # whatever else in this process bears it
                patch.delitem(sys.modules, name, raising=False)
            return SimpleNamespace(**{name: importlib.import_module(name) for name in modules})

        yield load
    for name in set(sys.modules) - before:
        if _is_of_an_example(sys.modules[name]):
            del sys.modules[name]


def _is_of_an_example(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and EXAMPLES in Path(str(file)).parents
