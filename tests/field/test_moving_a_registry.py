"""`marq export` and `marq import` move the registered models and their settings to another server."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support import RunningServer

HANDLER = "def handle(data, context):\n    return None if data is None else [{answer!r}] * len(data)\n"
ARGUMENTS = ["--disable-token-auth", "--enable-model-api"]


@pytest.fixture(scope="module")
def servers(
    start_server: Callable[..., RunningServer],
    make_archive: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunningServer, RunningServer]:
    """One with two versions of a model and another model, and one without; each has the archives."""
    stores = [tmp_path_factory.mktemp("stores") / name for name in ("old", "new")]
    for version in ("1.0", "2.0"):
        path = make_archive(stores[0], "m", HANDLER.format(answer=version), version=version)
        path.rename(path.with_name(f"m{version}.mar"))
    make_archive(stores[0], "other", HANDLER.format(answer="other"))
    shutil.copytree(stores[0], stores[1])
    old, new = (start_server(store, [], ARGUMENTS) for store in stores)
    api = httpx.Client(base_url=old.management, timeout=60)
    settings = {"batch_size": 4, "max_batch_delay": 7, "response_timeout": 33, "max_attempts": 2}
    for url, query in {
        "m1.0.mar": {"initial_workers": 1, **settings}, "m2.0.mar": {"initial_workers": 1},
        "other.mar": {"model_name": "my model", "initial_workers": 0},
    }.items():  # fmt: skip
        api.post("/models", params={"url": url, "synchronous": "true", **query}).raise_for_status()
    api.put("/models/m/2.0/set-default").raise_for_status()
    api.put("/models/m/1.0?min_worker=1&max_worker=3").raise_for_status()
    return old, new


def described(server: RunningServer, name: str, version: str) -> dict[str, object]:
    [found] = httpx.get(f"{server.management}/models/{name}/{version}").json()
    kept = "modelUrl minWorkers maxWorkers batchSize maxBatchDelay responseTimeout maxAttempts"
    return {key: found[key] for key in kept.split()}


@pytest.mark.slow
def test_models_versions_settings_and_defaults_arrive(
    servers: tuple[RunningServer, RunningServer], tmp_path: Path
) -> None:
    old, new = servers
    file = tmp_path / "models.json"
    exported = old.command("export", str(file))
    assert exported.returncode == 0, exported.stderr
    imported = new.command("import", str(file))
    assert imported.returncode == 0, imported.stderr
    for name, version in (("m", "1.0"), ("m", "2.0"), ("my%20model", "1.0")):
        assert described(new, name, version) == described(old, name, version)
    new.wait_until_ready("m")
    assert new.predict("m").text == "2.0"
    assert new.predict("m/1.0").text == "1.0"
    # What is there already stays, and what has no archive is named
    file.write_text(file.read_text().replace('"other.mar"', '"gone.mar"'))
    assert new.command("import", str(file)).returncode == 0
    httpx.delete(f"{new.management}/models/my%20model").raise_for_status()
    again = new.command("import", str(file))
    assert again.returncode == 1
    assert "m 1.0: is registered already" in again.stdout
    assert "Model not found at: gone.mar" in again.stderr


@pytest.mark.slow
def test_another_file_is_refused(servers: tuple[RunningServer, RunningServer], tmp_path: Path) -> None:
    for content in ("{", "[]", json.dumps({"format": 2, "models": []})):
        (tmp_path / "bad.json").write_text(content)
        refused = servers[1].command("import", str(tmp_path / "bad.json"))
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
