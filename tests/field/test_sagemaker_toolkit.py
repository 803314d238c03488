"""SageMaker's own PyTorch toolkit, from PyPI, starts `torchserve` and serves with it: one model, and many."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import torch
from ports import free_port
from support import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # SageMaker's models are TorchScript
]

PACKAGES = (
    "sagemaker-pytorch-inference==2.0.25",
    "sagemaker-inference==1.10.1",
    "retrying",
    "six",
    "setuptools<80",
)
BIN = Path(sys.executable).parent
# What the toolkit imports and these models do not need
STUBS = {"boto3.py": "", "scipy/__init__.py": "", "scipy/sparse.py": "def issparse(x):\n    return False\n"}
# It writes its configuration to /etc
START = """
import sys
from sagemaker_pytorch_serving_container import serving, torchserve
torchserve.TS_CONFIG_FILE = sys.argv[1]
serving.main()
"""
INFERENCE = """
import json, os, torch

def model_fn(model_dir, context=None):
    print("model_fn of NAME", flush=True)
    return torch.jit.load(os.path.join(model_dir, "model.pth"))

def input_fn(body, content_type, context=None):
    return torch.tensor(json.loads(body)["x"])

def predict_fn(x, model):
    return model(x)

def output_fn(y, accept):
    return json.dumps(["NAME", y.tolist()]), "application/json"
"""
BODY = {"x": [[1.0, 2.0]]}
# The toolkit takes the first process whose command names TorchServe's server for its own, and ends it: here
# it sees no processes but those that it has started.
ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
AS_USER = (*ALONE, "--user", "--map-root-user")
STRANGER = (sys.executable, "-X", "org.pytorch.serve.ModelServer", "-c", "import time; time.sleep(1000)")


@pytest.fixture(scope="module")
def alone() -> tuple[str, ...]:
    """The command that keeps a program's view of processes to its own."""
    for command in (ALONE, AS_USER):
        with contextlib.suppress(OSError):
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
    pytest.skip("this host allows no namespace of processes (unshare --pid)")


@pytest.fixture
def stranger() -> Iterator[None]:
    """Another server on this host, which the toolkit leaves alone."""
    with subprocess.Popen(STRANGER) as process:
        yield
        ended = process.poll()
        process.kill()
    assert ended is None


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PYTHONPATH with the toolkit."""
    folder = tmp_path_factory.mktemp("toolkit")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "lib"]
    subprocess.run([*install, *PACKAGES], check=True, timeout=200)
    for name, text in STUBS.items():
        (folder / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stubs" / name).write_text(text)
    return f"{folder}/lib:{folder}/stubs"


def make_model(folder: Path, name: str) -> Path:
    """A directory as SageMaker lays it out; the model adds its two inputs."""
    (folder / "code").mkdir(parents=True)
    (folder / "code/inference.py").write_text(INFERENCE.replace("NAME", name))
    layer = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    torch.jit.script(layer).save(folder / "model.pth")
    return folder


Start = Callable[..., tuple[str, Path]]


@pytest.fixture
def start(alone: tuple[str, ...], stranger: None, toolkit: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the toolkit's `serving.main()`; returns the address and what came on the console."""
    started = []

    def run(**environment: str) -> tuple[str, Path]:
        port = free_port()
        (tmp_path / "tmp").mkdir()
        given = {
            "PYTHONPATH": toolkit, "PATH": f"{BIN}:{os.environ['PATH']}", "TMPDIR": str(tmp_path / "tmp"),
            "MARQ_STATE_DIR": str(tmp_path / "state"), "MARQ_METRICS_ADDRESS": f"http://127.0.0.1:{free_port()}",
            "SAGEMAKER_BASE_DIR": str(tmp_path / "ml"), "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        }  # fmt: skip
        log = tmp_path / "console"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*alone, sys.executable, "-c", START, tmp_path / "ts.properties"],
                env={**os.environ, **given, **environment}, cwd=tmp_path, stdout=output,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        started.append(process)
        address = f"http://127.0.0.1:{port}"

        def is_healthy() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{address}/ping").status_code == 200
            return False

        wait_for(is_healthy, 60, "the server", log)
        return address, log

    yield run
    for process in started:
        for serving in psutil.Process(process.pid).children():
            serving.send_signal(signal.SIGTERM)
        process.wait(60)  # all that the toolkit has started ends with it


def test_one_model_is_invoked_and_its_prints_are_on_the_console(start: Start, tmp_path: Path) -> None:
    make_model(tmp_path / "ml/model", "single")
    address, log = start()
    answer = httpx.post(f"{address}/invocations", json=BODY, timeout=60)
    assert answer.json() == ["single", [[3.0]]]
    wait_for(lambda: "model_fn of single" in log.read_text(), what="the print", log=log)


def test_many_models_are_loaded_invoked_and_unloaded(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ml/model").mkdir(parents=True)
    address, _ = start(SAGEMAKER_MULTI_MODEL="true", TS_ENABLE_MODEL_API="true")
    for name in ("a", "b"):
        folder = make_model(tmp_path / "models" / name, name)
        loaded = httpx.post(f"{address}/models", params={"url": str(folder), "model_name": name}, timeout=100)
        assert loaded.status_code == 200, loaded.text
    for name in ("a", "b"):
        answer = httpx.post(f"{address}/models/{name}/invoke", json=BODY, timeout=60)
        assert answer.json() == [name, [[3.0]]]
    assert httpx.delete(f"{address}/models/a", timeout=60).status_code == 200
    assert httpx.post(f"{address}/models/a/invoke", json=BODY).status_code == 404


def test_the_settings_of_sagemakers_variables_are_those_of_the_model(start: Start, tmp_path: Path) -> None:
    make_model(tmp_path / "ml/model", "single")
    asked = {
        "MIN_WORKERS": "1", "MAX_WORKERS": "2", "BATCH_SIZE": "3", "MAX_BATCH_DELAY": "50",
        "RESPONSE_TIMEOUT": "70",
    }  # fmt: skip
    address, _ = start(**{f"SAGEMAKER_TS_{name}": value for name, value in asked.items()})
    assert httpx.post(f"{address}/invocations", json=BODY, timeout=60).json() == ["single", [[3.0]]]
    [model] = httpx.get(f"{address}/models/model").json()
    names = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout")
    assert [model[name] for name in names] == [1, 2, 3, 50, 70]
