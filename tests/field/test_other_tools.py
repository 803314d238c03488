"""What other tools expect: directories as models, handlers by path, their own namespaces for the archiver."""

import os
import signal
import subprocess
import sys
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from ports import free_port
from support import RunningServer, wait_for

from archive.reader import describe
from model_archiver.model_packaging import package_model
from model_archiver.model_packaging_utils import ModelExportUtils
from ts.context import Context
from ts.metrics.metrics_store import MetricsStore

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STATE = ("MARQ_STATE_DIR", "XDG_STATE_HOME")
SIDE = "import side\ndef handle(data, context):\n    return [side.W] * len(data) if data else None\n"


@dataclass
class Started:
    """A server that `torchserve --foreground` runs, all planes on one address."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path


Start = Callable[..., Started]


@pytest.fixture
def torchserve(tmp_path: Path) -> Iterator[Start]:
    """Starts servers: torchserve("--models", "m.mar", HOME="/home")."""
    started = []

    def start(*arguments: str, **environment: str) -> Started:
        address = f"http://127.0.0.1:{free_port()}"
        planes = [f"{plane}_address={address}" for plane in ("inference", "management", "metrics")]
        (tmp_path / "ts.properties").write_text("\n".join([*planes, "default_workers_per_model=1"]))
        (tmp_path / "store").mkdir()
        usual = {name: value for name, value in os.environ.items() if name not in STATE}
        flags = "--start --foreground --ncs --dt --model-store store --ts-config ts.properties"
        log = tmp_path / "out"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [BIN / "torchserve", *flags.split(), *arguments], cwd=tmp_path, stdout=output,
                env={**usual, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), **environment},
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(process)
        wait_for(lambda: "Model server started." in log.read_text(), 60, "the server", log)
        return Started(process, address, log)

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_a_directory_that_the_operator_names_is_a_model_wherever_it_is(
    torchserve: Start, tmp_path: Path
) -> None:
    model = tmp_path / "opt/ml/model"
    model.mkdir(parents=True)
    (model / "side.py").write_text("W = 'found'\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/svc.py").write_text(SIDE)
    server = torchserve(
        "--models", f"model={model}", MARQ_DEFAULT_SERVICE_HANDLER=f"{tmp_path}/elsewhere/svc.py:handle"
    )

    def answer() -> str:
        return httpx.post(f"{server.address}/models/model/invoke", content="x", timeout=60).text

    wait_for(lambda: answer() == "found", 60, "an answer", server.log)
    assert httpx.post(f"{server.address}/invocations", content="x").text == "found"
    assert httpx.get(f"{server.address}/ping").json() == {"status": "Healthy"}


@pytest.fixture(scope="module")
def directory_model(
    start_server: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunningServer, Path]:
    """A model directory `d` with a handler in a folder of its own, and one outside of the store."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("store/d/code", "elsewhere"):
        (root / folder).mkdir(parents=True)
        (root / folder / "side.py").write_text(f"W = 'found in {Path(folder).name}'\n")
        (root / folder / "svc.py").write_text(SIDE)
    (root / "store/d/weights.txt").touch()
    server = start_server(
        root / "store", [], ["--disable-token-auth", "--enable-model-api"],
        default_service_handler=f"{root}/elsewhere/svc.py:handle",
    )  # fmt: skip
    return server, root


def register(server: RunningServer, name: str, **query: str) -> httpx.Response:
    usual = {"url": "d", "model_name": name, "initial_workers": "1", "synchronous": "true"}
    return httpx.post(f"{server.management}/models", params={**usual, **query}, timeout=60)


def test_a_default_handler_of_the_operator_finds_its_neighbours(
    directory_model: tuple[RunningServer, Path],
) -> None:
    server, _ = directory_model
    assert register(server, "a").status_code == 200
    assert server.predict("a", b"x").text == "found in elsewhere"


def test_a_handler_in_a_folder_of_the_model_finds_its_neighbours(
    directory_model: tuple[RunningServer, Path],
) -> None:
    server, _ = directory_model
    assert register(server, "b", handler="code/svc.py:handle").status_code == 200
    assert server.predict("b", b"x").text == "found in code"


def test_a_client_cannot_name_a_handler_outside_of_the_model(
    directory_model: tuple[RunningServer, Path],
) -> None:
    server, root = directory_model
    for handler in (f"{root}/elsewhere/svc.py:handle", "../../elsewhere/svc.py:handle"):
        answer = register(server, "c", handler=handler)
        assert answer.status_code == 400
        assert "default_service_handler" in answer.json()["message"]


def test_package_model_takes_the_namespaces_of_other_tools(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("def handle(data, context):\n    return data\n")
    (tmp_path / "checkpoint.pth").write_bytes(b"weights")
    checkpoint, handler = tmp_path / "checkpoint.pth", tmp_path / "handler.py"
    args = Namespace(
        model_file=None, serialized_file=str(checkpoint), handler=str(handler), model_name="detector",
        version="1.0", export_path=str(tmp_path), force=True, extra_files=None, requirements_file=None,
        runtime="python", archive_format="default",
    )  # fmt: skip
    package_model(args, ModelExportUtils.generate_manifest_json(args))
    found = describe(tmp_path / "detector.mar")
    assert found.manifest.model_name == "detector"
    assert {"checkpoint.pth", "handler.py"} <= set(found.names)


def test_metrics_and_context_are_used_without_a_server_as_in_unit_tests_of_handlers() -> None:
    for ids in (uuid.uuid4(), ["1", "2"], {0: "1"}, "1", None):
        store = MetricsStore(ids, "m")
        store.add_counter("Rows", 1)
        store.add_time("Took", 2.5)
        assert [metric.name for metric in store.store] == ["Rows", "Took"]
    context = Context("m", "/models/m", {}, 1, None, "0.12.0")
    context.set_response_status(500, "no request", 0)
    assert context.model_dir == "/models/m"
