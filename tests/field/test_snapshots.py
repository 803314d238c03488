"""Snapshots as TorchServe writes and reads them: `logs/config/<time>-startup.cfg` and the like."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import javaproperties
import pytest
from support import START_TIMEOUT_S, wait_for
from torchserve_user import User

from marq.control import snapshots as writer
from marq.settings import snapshot_files
from marq.settings.snapshot_files import Snapshots

HANDLER = "def handle(data, context):\n    return None if data is None else ['yes'] * len(data)\n"
# What TorchServe's own start reads of each model version
FIELDS = {
    "defaultVersion", "marName", "minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout",
    "startupTimeout", "runtimeType",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(make_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("store")
    make_archive(directory, "a", HANDLER, config={"minWorkers": 1, "maxWorkers": 1})
    for version in ("1.0", "2.0"):
        path = make_archive(directory, "b", HANDLER, version=version)
        path.rename(path.with_name(f"b{version}.mar"))
    return directory


@pytest.fixture(scope="module")
def new_user(store: Path) -> Iterator[Callable[[], User]]:
    homes: list[Path] = []

    def make() -> User:
        homes.append(Path(tempfile.mkdtemp(dir="/tmp")))  # short: the path of a Unix socket is limited
        return User(homes[-1], store)

    yield make
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def user(new_user: Callable[[], User]) -> Iterator[User]:
    user = new_user()
    yield user
    user.leave()


@pytest.fixture(scope="module")
def past(new_user: Callable[[], User]) -> User:
    """Its server has run with `a`, with two replicas, and with both versions of `b`; it has been stopped."""
    user = new_user()
    start(user, "--models", "a.mar")
    prepare(user)
    httpx.put(f"{user.management}/models/a?min_worker=2&synchronous=true", timeout=60).raise_for_status()
    user.torchserve("--stop")
    for folder in KEPT:
        (user.home / folder).rename(user.home / f"{folder} then")
    return user


@pytest.fixture
def again(past: User) -> Iterator[User]:
    """The same user, with the registry and the snapshots of then."""
    for folder in KEPT:
        shutil.copytree(past.home / f"{folder} then", past.home / folder)
    yield past
    past.leave()
    for folder in KEPT:
        shutil.rmtree(past.home / folder, ignore_errors=True)


KEPT = ("state", "logs")


def start(user: User, *arguments: str) -> None:
    """Without --ts-config: TorchServe looks for snapshots only then."""
    user.torchserve("--start", "--model-store", user.store, *arguments)
    wait_for(lambda: "Model server started." in user.output.read_text(), START_TIMEOUT_S, log=user.output)


def written(user: User) -> list[Path]:
    return sorted((user.home / "logs" / "config").glob("*.cfg"))


def models_of(path: Path) -> dict[str, dict[str, dict[str, object]]]:
    """Reads a file as Java does."""
    with path.open("rb") as file:
        snapshot = json.loads(javaproperties.load(file)["model_snapshot"])
    assert snapshot["name"] == path.name
    assert snapshot["modelCount"] == sum(map(len, snapshot["models"].values()))
    models: dict[str, dict[str, dict[str, object]]] = snapshot["models"]
    return models


def wait_for_models(user: User, expected: Callable[[dict[str, dict[str, dict[str, object]]]], bool]) -> Path:
    """The newest snapshot, as soon as it has these models."""

    def newest() -> Path | None:
        path = written(user)[-1]
        return path if path.name.endswith("-snapshot.cfg") and expected(models_of(path)) else None

    path: Path = wait_for(newest, what="a snapshot", log=user.output)
    return path


def prepare(user: User) -> None:
    """Two versions of b over HTTP, the second one the default and larger; the first one without workers."""
    api = httpx.Client(base_url=user.management, timeout=60)
    for version, workers in (("1.0", 0), ("2.0", 1)):
        query = {"url": f"b{version}.mar", "batch_size": 4, "max_batch_delay": 7, "initial_workers": workers}
        api.post("/models", params={**query, "synchronous": "true"}).raise_for_status()
    api.put("/models/b/2.0/set-default").raise_for_status()
    api.put("/models/b/2.0?min_worker=2&max_worker=3&synchronous=true").raise_for_status()


def listed(user: User) -> set[str]:
    found = httpx.get(f"{user.management}/models", timeout=60).json()["models"]
    return {model["modelName"] for model in found}


def described(user: User, path: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = httpx.get(f"{user.management}/models/{path}", timeout=60).json()
    return found


def sizes(user: User) -> dict[str, tuple[object, ...]]:
    keys = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay")
    return {str(each["modelVersion"]): tuple(each[key] for key in keys) for each in described(user, "b/all")}


RESTORED = {"1.0": (0, 0, 4, 7), "2.0": (2, 3, 4, 7)}


def test_a_start_each_change_and_the_stop_write_a_file_that_torchserve_can_start_from(user: User) -> None:
    start(user, "--models", "a.mar")
    [first] = written(user)
    assert first.name.endswith("-startup.cfg")
    assert first.stat().st_mode & 0o077 == 0
    with first.open("rb") as file:
        keys = javaproperties.load(file)
    assert keys["inference_address"] == user.inference
    assert keys["number_of_netty_threads"] == "32"  # without an effect here, but not in TorchServe
    assert (keys["model_store"], keys["load_models"]) == (str(user.store), "a.mar")
    assert (keys["tsConfigFile"], keys["version"]) == ("config.properties", "0.12.0")
    stored = models_of(first)["a"]["1.0"]
    assert stored.keys() == FIELDS
    assert (stored["marName"], stored["defaultVersion"], stored["minWorkers"]) == ("a.mar", True, 1)
    prepare(user)
    changed = wait_for_models(user, lambda models: models.get("b", {}).get("2.0", {}).get("maxWorkers") == 3)
    assert models_of(changed)["b"]["1.0"]["defaultVersion"] is False
    assert models_of(changed)["b"]["2.0"]["batchSize"] == 4
    httpx.delete(f"{user.management}/models/a", timeout=60).raise_for_status()
    wait_for_models(user, lambda models: "a" not in models)
    user.torchserve("--stop")
    assert written(user)[-1].name.endswith("-shutdown.cfg")
    assert models_of(written(user)[-1]).keys() == {"b"}


@pytest.mark.slow
def test_a_start_without_a_config_file_restores_the_models_of_the_newest_snapshot(again: User) -> None:
    # Given a stopped server whose registry is lost
    shutil.rmtree(again.home / "state")
    # When it is started again
    start(again)
    # Then all is as it was
    assert sizes(again) == RESTORED
    assert described(again, "b")[0]["modelVersion"] == "2.0"
    assert listed(again) == {"a", "b"}
    assert "-shutdown.cfg is used" in (again.home / "logs" / "ts_log.log").read_text()


@pytest.mark.slow
def test_where_the_registry_is_there_it_wins_and_nothing_is_registered_twice(again: User) -> None:
    # Given an older file that says something else
    newest = written(again)[-1]
    newest.write_text(newest.read_text().replace("b2.0.mar", "gone.mar"))
    start(again, "--models", "a.mar")
    assert "Failed to load" not in again.output.read_text()
    assert sizes(again) == RESTORED
    # Models of the command line keep their size, too
    assert described(again, "a")[0]["minWorkers"] == 2


@pytest.mark.slow
def test_ncs_writes_no_files_and_restores_none(again: User) -> None:
    shutil.rmtree(again.home / "state")
    before = written(again)
    start(again, "--ncs", "--models", "a.mar")
    assert listed(again) == {"a"}
    again.torchserve("--stop")
    assert written(again) == before


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of snapshots, in a working directory with a config.properties."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.properties").write_text("job_queue_size=7\n")
    (tmp_path / "logs" / "config").mkdir(parents=True)
    return tmp_path / "logs" / "config"


def snapshot(folder: Path, name: str, *lines: str, models: str = "{}") -> Path:
    path = folder / name
    path.write_text("\n".join((*lines, f'model_snapshot={{"modelCount": 0, "models": {models}}}', "")))
    return path


def test_the_newest_file_is_used_and_what_is_no_snapshot_is_passed_over(folder: Path) -> None:
    snapshot(folder, "20240101000000000-startup.cfg")
    good = snapshot(folder, "20240101000000001-shutdown.cfg")
    (folder / "20240101000000002-snapshot.cfg").write_text("model_snapshot={\n")
    (folder / "notes.txt").touch()
    found = snapshot_files.newest(folder)
    assert found
    assert found.path == good
    assert snapshot_files.newest(folder / "nowhere") is None


def test_the_settings_come_from_the_snapshot_or_from_the_file_that_it_was_made_of(folder: Path) -> None:
    path = snapshot(folder, "20240101000000000-startup.cfg", "tsConfigFile=/home/user/prod.properties")
    found = snapshot_files.newest(folder)
    assert found
    assert found.config == path
    assert "in the place of config.properties" in found.notice
    # A config.properties that was changed since the snapshot counts
    snapshot(folder, path.name, "tsConfigFile=config.properties", "job_queue_size=5")
    found = snapshot_files.newest(folder)
    assert found
    assert found.config == Path("config.properties")


def test_files_get_names_of_their_own_and_only_the_newest_are_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "KEPT", 3)
    (folder / "notes.txt").touch()
    for _ in range(5):
        writer.write(Snapshots(str(folder), {"greeting": "Grüße"}), writer.CHANGE, {})
    names = [path.name for path in snapshot_files.files(folder)]
    assert len(names) == 3
    assert list(folder.parent.iterdir()) == [folder]
    assert (folder / "notes.txt").exists()
    assert "Gr\\u00fc\\u00dfe" in (folder / names[0]).read_text()  # Java reads Latin-1


def test_a_folder_that_cannot_be_written_stops_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(folder)
    folder.touch()
    writer.write(Snapshots(str(folder), {}), writer.STARTUP, {})
    assert "the snapshot of the models cannot be written" in caplog.text
