"""Models with packages of their own, served."""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from support import RunningServer, wait_for
from wheels import make_wheel

from archive.packing.writer import ArchiveSpec, write

pytestmark = pytest.mark.slow

HANDLER = """
import sys

import tinytool


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    return [{"version": tinytool.VERSION, "prefix": sys.prefix, "path": sys.path[:2]}] * len(data)
"""
ONE_WHEEL = "--no-index\n./tinytool-{}-py3-none-any.whl\n"
IMPOSSIBLE = "--no-index\nthere-is-no-such-package==4.2\n"
FAILED = "Custom pip package installation failed for model {}\n"

Pack = Callable[..., Path]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(start_server: Any, store: Path) -> RunningServer:
    arguments = ["--disable-token-auth", "--enable-model-api"]
    running: RunningServer = start_server(store, [], arguments, install_py_dep_per_model="true")
    return running


@pytest.fixture
def pack(store: Path, tmp_path: Path) -> Pack:
    """Packs a model with a wheel beside its requirements: pack("a", tool="2.0", useVenv=True)."""

    def pack(
        name: str, requirements: str = ONE_WHEEL, tool: str = "1.0", archive_format: str = "default",
        **config: Any,
    ) -> Path:  # fmt: skip
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "handler.py").write_text(HANDLER)
        (folder / "requirements.txt").write_text(requirements.format(tool))
        (folder / "model-config.yaml").write_text(json.dumps(config))
        wheel = make_wheel(folder, "tinytool", tool, f"VERSION = {tool!r}\n")
        return write(
            ArchiveSpec(
                model_name=name, version="1.0", handler=str(folder / "handler.py"), export_path=store,
                requirements_file=str(folder / "requirements.txt"), extra_files=(str(wheel),),
                config_file=str(folder / "model-config.yaml"), force=True, archive_format=archive_format,
            )
        )  # fmt: skip

    return pack


def register(server: RunningServer, url: str, **query: Any) -> httpx.Response:
    query = {"url": url, "initial_workers": 1, "synchronous": "true", **query}
    return httpx.post(f"{server.management}/models", params=query, timeout=90)


def answer(server: RunningServer, model: str) -> dict[str, Any]:
    response = server.predict(model)
    assert response.status_code == 200, response.text
    return dict(response.json())


def slow_project(folder: Path) -> Path:
    """A project whose build takes ten minutes."""
    project = folder / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
    )
    (project / "slow.py").write_text("import time\ntime.sleep(600)\n")
    return project


def is_at_work(process: psutil.Process) -> bool:
    """Whether it runs, and is not only waiting for init to take note of its end."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def model_log(server: RunningServer) -> str:
    log = server.state_dir / "logs/model_log.log"
    return log.read_text() if log.is_file() else ""


def test_two_models_use_two_versions_of_a_package_at_the_same_time(server: RunningServer, pack: Pack) -> None:
    for name, tool in (("old", "1.0"), ("new", "2.0")):
        response = register(server, pack(name, tool=tool).name)
        assert response.status_code == 200, f"{response.text}\n{model_log(server)}"
    assert (answer(server, "old")["version"], answer(server, "new")["version"]) == ("1.0", "2.0")


def test_packages_come_right_behind_the_model_s_own_directory(server: RunningServer, pack: Pack) -> None:
    assert register(server, pack("ordered").name).status_code == 200
    own, packages = answer(server, "ordered")["path"]
    assert Path(own).parent == server.state_dir / "model-dirs"
    assert Path(packages).parent.parent == server.state_dir / "dependencies"


def test_pip_s_output_is_in_the_model_log_behind_the_model_s_name(server: RunningServer, pack: Pack) -> None:
    assert register(server, pack("logged", tool="3.0").name, initial_workers=0).status_code == 200

    def is_logged() -> bool:
        lines = [line for line in model_log(server).splitlines() if "[logged-1.0@" in line]
        return any("tinytool-3.0-py3-none-any.whl" in line for line in lines)

    wait_for(is_logged, what="the output of pip")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("synchronous", ["true", "false"])
def test_a_failed_installation_is_a_bad_request_and_undone(
    server: RunningServer, pack: Pack, workers: int, synchronous: str
) -> None:
    # Given requirements that nothing can fulfil
    query = {"initial_workers": workers, "synchronous": synchronous}
    response = register(server, pack("broken", IMPOSSIBLE).name, **query)
    # Then the client hears which, and nothing is registered
    assert response.status_code == 400
    assert response.json()["type"] == "ModelException"
    assert response.json()["message"].startswith(FAILED.format("broken"))
    assert "there-is-no-such-package" in response.json()["message"]
    assert httpx.get(f"{server.management}/models/broken").status_code == 404
    # And the mended archive can be registered at once
    began = time.monotonic()
    response = register(server, pack("broken", tool="1.0").name)
    assert response.status_code == 200, response.text
    assert time.monotonic() - began < 60
    assert httpx.delete(f"{server.management}/models/broken", timeout=60).status_code == 200


def test_others_are_served_and_registered_while_one_is_installed(
    server: RunningServer, pack: Pack, tmp_path: Path
) -> None:
    # Given a registration that waits for a long installation
    archive = pack("slow", f"--no-index\n{slow_project(tmp_path)}\n")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(register, server, archive.name)
        wait_for(lambda: "/project" in model_log(server), what="pip")
        # Then another model can be registered and used
        assert register(server, pack("quick").name).status_code == 200
        assert answer(server, "quick")["version"] == "1.0"
        assert not waiting.done()
        # And unregistering the first ends the wait
        assert httpx.delete(f"{server.management}/models/slow", timeout=60).status_code == 200
        assert waiting.result(timeout=60).status_code == 404


def test_a_model_without_workers_is_ready_to_be_scaled_up(server: RunningServer, pack: Pack) -> None:
    response = register(server, pack("idle").name, initial_workers=0)
    assert "registered with 0 initial workers" in response.json()["status"]
    query = {"min_worker": 1, "synchronous": "true"}
    scaled = httpx.put(f"{server.management}/models/idle", params=query, timeout=60)
    assert scaled.status_code == 200, scaled.text
    assert answer(server, "idle")["version"] == "1.0"


def test_a_virtual_environment_is_the_replica_s_own(server: RunningServer, pack: Pack) -> None:
    response = register(server, pack("venv", tool="4.0", useVenv=True).name)
    assert response.status_code == 200, f"{response.text}\n{model_log(server)}"
    found = answer(server, "venv")
    assert found["version"] == "4.0"
    assert Path(found["prefix"]).is_relative_to(server.state_dir / "dependencies")


def test_a_directory_brings_its_wheels_like_an_archive(
    server: RunningServer, pack: Pack, store: Path
) -> None:
    folder = pack("folder", archive_format="no-archive", tool="5.0")
    before = sorted(folder.rglob("*"))
    response = register(server, folder.name)
    assert response.status_code == 200, f"{response.text}\n{model_log(server)}"
    assert answer(server, "folder")["version"] == "5.0"
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == before


def test_without_the_setting_nothing_is_installed_but_environments_are_made(
    start_server: Any, store: Path, pack: Pack
) -> None:
    plain: RunningServer = start_server(store, [], ["--disable-token-auth", "--enable-model-api"])
    assert register(plain, pack("plain", IMPOSSIBLE).name, initial_workers=0).status_code == 200
    assert not (plain.state_dir / "dependencies").exists()
    assert register(plain, pack("bare", IMPOSSIBLE, useVenv=True).name, initial_workers=0).status_code == 200
    wait_for(lambda: list((plain.state_dir / "dependencies").glob("*/venv")), what="the environment")
    (made,) = (plain.state_dir / "dependencies").glob("*/venv")
    assert list(made.rglob("tinytool*")) == []


def test_a_model_of_the_start_that_cannot_be_installed_is_told_and_tried_again(
    start_server: Any, pack: Pack, tmp_path: Path
) -> None:
    store = tmp_path / "start"
    store.mkdir()
    archive = store / shutil.copy(
        pack("start", f"--no-index\n--find-links {tmp_path}/late\ntinytool\n"), store
    )
    server: RunningServer = start_server(store, [archive.name], install_py_dep_per_model="true")
    wait_for(
        lambda: FAILED.format("start").strip() in server.log.read_text(), what="the report", log=server.log
    )
    assert "no matching distribution found for tinytool" in server.marq("status").stdout.lower()
    make_wheel(tmp_path / "late", "tinytool", "6.0", "VERSION = '6.0'\n")
    server.wait_until_ready("start")
    assert answer(server, "start")["version"] == "6.0"


def test_ctrl_c_ends_an_installation(start_server: Any, pack: Pack, tmp_path: Path) -> None:
    # Given a model whose package takes ten minutes to build
    store = tmp_path / "slow"
    store.mkdir()
    shutil.copy(pack("slow", f"--no-index\n{slow_project(tmp_path)}\n"), store)
    server: RunningServer = start_server(store, "all", install_py_dep_per_model="true")
    wait_for(lambda: "/project" in model_log(server), what="pip", log=server.log)
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert any("pip" in process.cmdline() for process in family)
    # When the server is stopped
    began = time.monotonic()
    assert server.stop() == 0
    # Then nobody waits for it, and nothing of it is left
    assert time.monotonic() - began < 100
    assert [process for process in family if is_at_work(process)] == []
    assert [path.name for path in (server.state_dir / "dependencies").iterdir()] == ["locks"]
