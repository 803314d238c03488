"""A wheel and a source distribution are built, installed into new environments, and used there."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from ports import free_port
from sources import PROJECT, PYTHON_FREE, copy_sources
from support import RunningServer, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PACKAGES = (
    *("archive", "base_handler", "gateway", "marq", "model_archiver", "ts", "workers", "workflow_archiver"),
)
MIRROR = "def handle(data, context):\n    return data and [bytes(row['body']) for row in data]\n"
# What services that only write to the queue must not need, and what it may cost them.
HEAVY = {"celery", "fastapi", "grpc", "httpx", "numpy", "pydantic", "torch", "typer", "uvicorn"}
LIGHT_MB = 25


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution, and the wheel that is built from it."""
    sources, made = copy_sources(tmp_path_factory.mktemp("sources")), tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "uv", "build", "--out-dir", made, sources)
    return made


@pytest.fixture(scope="module")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes an environment, and installs with the versions of constraints.txt: the folder of its commands."""

    def make(*packages: object) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        run(sys.executable, "-m", "venv", folder)
        constraints = PROJECT / "constraints.txt"
        quick = ("--quiet", "--no-compile")  # Python compiles the modules that are used
        run(folder / "bin/pip", "install", *quick, "--constraint", constraints, *packages)
        return folder / "bin"

    return make


def run(*command: object, **options: object) -> str:
    """Runs a command away from this project's settings; returns its output."""
    environment = {**PYTHON_FREE, **options.pop("env", {})}  # type: ignore[dict-item]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env=environment, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return str(done.stdout)


def test_both_distributions_hold_every_file_of_the_packages(distributions: Path) -> None:
    listed = run("git", "ls-files", *PACKAGES, cwd=PROJECT).split()
    [wheel], [source] = distributions.glob("*.whl"), distributions.glob("*.tar.gz")
    assert set(listed) - set(zipfile.ZipFile(wheel).namelist()) == set()
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*listed, "constraints.txt", "README.md", "LICENSE", "pyproject.toml"} - names == set()


def test_the_wheel_serves_an_archive(
    distributions: Path, new_environment: Callable[..., Path], tmp_path: Path
) -> None:
    [wheel] = distributions.glob("*.whl")
    commands = new_environment(f"{wheel}[worker]")
    assert run(commands / "marq", "--version").startswith("marq ")
    assert installed(commands) - pinned() <= {"marq", "pip", "setuptools"}
    (tmp_path / "mirror.py").write_text(MIRROR)
    archiver = [commands / "torch-model-archiver", "--model-name", "mirror", "--version", "1.0"]
    run(*archiver, "--handler", tmp_path / "mirror.py", "--export-path", tmp_path)
    port = free_port()
    start = [commands / "marq", "start", "--model-store", tmp_path, "--models", "mirror.mar"]
    ports = ["--port", port, "--management-port", free_port(), "--metrics-port", free_port()]
    server = subprocess.Popen(
        [str(word) for word in [*start, *ports, "--state-dir", tmp_path / "state", "--disable-token-auth"]],
        cwd=tmp_path,
        env={
            **PYTHON_FREE,
            **{f"MARQ_GRPC_{api}_PORT": str(free_port()) for api in ("INFERENCE", "MANAGEMENT")},
        },
    )
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/ping"), what="the server")
        answer = httpx.post(f"http://127.0.0.1:{port}/predictions/mirror", content=b"installed", timeout=60)
        assert answer.text == "installed"
    finally:
        server.terminate()
        server.wait(60)


def installed(commands: Path) -> set[str]:
    listed = json.loads(run(commands / "pip", "list", "--format", "json"))
    return {normal(package["name"]) for package in listed}


def pinned() -> set[str]:
    return {
        normal(name) for name in re.findall(r"^([\w.-]+)==", (PROJECT / "constraints.txt").read_text(), re.M)
    }


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def light(distributions: Path, new_environment: Callable[..., Path]) -> Iterator[Path]:
    """The commands of an environment with marq as it is without extras, from the source distribution."""
    [source] = distributions.glob("*.tar.gz")
    commands = new_environment(source)
    yield commands
    shutil.rmtree(commands.parent)


def test_clients_need_none_of_the_packages_of_the_server(light: Path) -> None:
    """docs/queue-contract.md states these figures."""
    assert installed(light) <= {"hiredis", "marq", "pip", "pyyaml", "redis", "setuptools"}
    assert not HEAVY & installed(light)
    [packages] = light.parent.glob("lib/python*/site-packages")
    tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    own = [folder for folder in packages.iterdir() if not folder.name.startswith(tools)]
    size = sum(file.stat().st_size for folder in own for file in [folder, *folder.rglob("*")])
    assert size < LIGHT_MB * 1e6


def test_an_installation_without_extras_submits_and_packs(
    light: Path,
    serve_models: Callable[..., RunningServer],
    make_archive: Callable[..., Path],
    tmp_path: Path,
) -> None:
    make_archive(tmp_path / "store", "mirror", MIRROR, config={"minWorkers": 1, "maxWorkers": 1})
    server = serve_models(tmp_path / "store")
    script = (
        "import sys\nfrom marq import Client\n"
        "with Client() as client:\n"
        "    print(client.predict('mirror', b'one').body.decode())\n"
        "    print(client.submit('mirror', b'two').result(60).body.decode())\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    found = run(light / "python", "-c", script, cwd=tmp_path, env={"MARQ_REDIS_URL": server.redis_url})
    assert found.splitlines() == ["one", "two", "[]"]

    (tmp_path / "mirror.py").write_text(MIRROR)
    archiver = [light / "torch-model-archiver", "--model-name", "packed", "--version", "1.0"]
    run(*archiver, "--handler", tmp_path / "mirror.py", "--export-path", tmp_path, cwd=tmp_path)
    assert (tmp_path / "packed.mar").is_file()

    for command in ("marq", "torchserve"):
        refused = subprocess.run(
            [light / command, "--version"], capture_output=True, text=True, env=PYTHON_FREE
        )
        assert refused.returncode == 1
        assert "pip install" in refused.stderr and "Traceback" not in refused.stderr
