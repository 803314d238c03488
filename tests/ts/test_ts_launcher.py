"""The functions with which scripts start and fill a server."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from ports import free_port

from ts import launcher

HANDLER = "def handle(data, context):\n    return ['here'] * len(data or [])\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory of its own for all that the command keeps, with a configuration of free ports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MARQ_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "store").mkdir()
    names = ("inference", "management", "metrics")
    addresses = {name: f"http://127.0.0.1:{free_port()}" for name in names}
    lines = [f"{name}_address={address}\n" for name, address in addresses.items()]
    ports = [f"grpc_{name}_port={free_port()}\n" for name in names[:2]]
    (tmp_path / "config.properties").write_text("".join([*lines, *ports]))
    yield tmp_path, addresses["inference"]
    launcher.stop()


@pytest.mark.slow
def test_a_server_is_started_filled_and_stopped(place, make_archive):
    folder, inference = place
    make_archive(folder / "store", "one", HANDLER)
    output = launcher.start(folder / "store", folder / "config.properties", no_config_snapshots=True)
    answer = launcher.register_model("one", "one.mar")
    assert (answer.status_code, answer.json()["status"].partition(" registered")[0]) == (
        200,
        'Model "one" Version: 1.0',
    )
    refused = launcher.register_model_with_params({"url": "nope.mar"})
    assert refused.status_code == 404
    assert httpx.post(f"{inference}/predictions/one").text == "here"
    launcher.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{inference}/ping")
    while output.get(timeout=60) is not None:  # it ends with None
        pass


def test_a_server_that_does_not_start_tells_why(place):
    folder, _ = place
    with pytest.raises(RuntimeError, match="model-store directory not found"):
        launcher.start(folder / "nowhere", folder / "config.properties")


def test_the_function_of_the_server_is_the_command(tmp_path):
    code = "import sys; sys.argv = ['x', '--version']; from ts.model_server import start; start()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=Path(tmp_path)
    )
    assert (done.returncode, done.stdout) == (0, "TorchServe Version is 0.12.0\n")


@pytest.mark.slow
def test_an_environment_of_its_own_sees_what_is_installed_here(tmp_path):
    script = Path(launcher.__file__).parent / "utils/setup_model_venv.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv/bin/python"
    code = "import sys, httpx, pip; print(sys.prefix, pip.__file__, httpx.__file__, sep='\\n')"
    told = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    prefix, pip, httpx_file = told.splitlines()
    assert prefix == str(tmp_path / "venv")
    assert pip.startswith(prefix)
    assert httpx_file == httpx.__file__
