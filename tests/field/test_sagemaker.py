"""SageMaker's PyTorch toolkit starts `torchserve` and looks for TorchServe's server among the processes."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from ports import free_port
from support import wait_for

TORCHSERVE = Path(sys.executable).with_name("torchserve")
HANDLER = "def handle(data, context):\n    return ['seen'] * len(data) if data else None\n"


@pytest.fixture
def server(tmp_path):
    """Starts it as the toolkit does, with a directory as model, one port for all: its address."""
    model = tmp_path / "opt" / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "inference.py").write_text(HANDLER)
    for directory in ("store", "tmp", "home"):
        (tmp_path / directory).mkdir()
    address = f"http://127.0.0.1:{free_port()}"
    config = tmp_path / "ts.properties"
    config.write_text(
        f"inference_address={address}\nmanagement_address={address}\nenable_envvars_config=true\n"
        f"default_service_handler={model / 'code' / 'inference.py'}:handle\ndefault_workers_per_model=1\n"
        "enable_metrics_api=false\ndisable_token_authorization=true\nenable_model_api=true\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    environment["MARQ_STATE_DIR"] = str(tmp_path / "state")

    def torchserve(*arguments):
        # Output to a file: the server keeps the descriptor
        with (tmp_path / "out").open("ab") as out:
            subprocess.run(
                [TORCHSERVE, *map(str, arguments)],
                env=environment, cwd=tmp_path, stdout=out, stderr=out, check=True, timeout=60,
            )  # fmt: skip

    arguments = ["--model-store", tmp_path / "store", "--ts-config", config, "--models", f"model={model}"]
    torchserve("--start", *arguments)
    yield address
    torchserve("--stop")


def is_up(address):
    try:
        return httpx.get(f"{address}/ping").status_code == 200
    except httpx.HTTPError:
        return False


def test_the_main_process_is_found_and_a_directory_that_the_operator_names_answers(server, tmp_path):
    wait_for(lambda: is_up(server), 90, "the server")
    pid = int((tmp_path / "tmp" / ".model_server.pid").read_text())
    # The toolkit's own look for the server
    assert "org.pytorch.serve.ModelServer" in psutil.Process(pid).cmdline()

    def answer():
        return httpx.post(f"{server}/models/model/invoke", content=b"x", timeout=60).text

    wait_for(lambda: answer() == "seen", 60, "an answer of the model")
