import json

import pytest

from marq.settings import loading, snapshot

STORED = {"minWorkers": 2, "maxWorkers": 3, "batchSize": 4, "marName": "a.mar", "defaultVersion": True}


@pytest.fixture
def text():
    """What TorchServe writes after two models were registered."""
    models = {"a": {"1.0": STORED, "2.0": {**STORED, "marName": "a2.mar"}}, "b": {"1.0": STORED}}
    return json.dumps({"name": "20240101-snapshot.cfg", "modelCount": 3, "created": 1, "models": models})


def test_a_snapshot_says_what_to_load_and_how(text):
    models, model_settings = snapshot.translate(text)
    assert models == "a=a.mar,a=a2.mar,b=a.mar"
    assert json.loads(model_settings)["a"]["1.0"] == {
        "minWorkers": 2, "maxWorkers": 3, "batchSize": 4, "defaultVersion": True,
    }  # fmt: skip


def test_a_snapshot_takes_the_place_of_what_else_names_models(tmp_path, text):
    path = tmp_path / "20240101-snapshot.cfg"
    path.write_text(f"load_models=all\nmodels={{}}\nmodel_snapshot={text}\n")
    resolved = loading.resolve(path, {"models": "c.mar"}, {})
    assert resolved.settings.models == "a=a.mar,a=a2.mar,b=a.mar"
    assert resolved.settings.model_defaults("a", "2.0")["batchSize"] == 4
    assert resolved.sources["models"] == f"{path}:3"


def test_the_processes_that_a_server_starts_use_the_same_models(text):
    loaded = loading.load(model_snapshot=text)
    again = loading.resolve(None, {}, loaded.environment()).settings
    assert (again.models, again.model_settings) == (loaded.models, loaded.model_settings)


def test_an_archive_that_is_missing_is_told_in_torchserves_words(tmp_path, text):
    (tmp_path / "a.mar").touch()
    missing = "Model archive file for model :a, version :2.0 not found in model store"
    assert snapshot.missing(text, tmp_path) == missing
    (tmp_path / "a2.mar").touch()
    assert snapshot.missing(text, tmp_path) is None
    assert snapshot.missing(text, None).startswith("Model archive file for model :a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[]",
        '{"models": []}',
        '{"models": {"a": {"1": {}}}}',
        '{"models": {"a": {"1": {"marName": 5}}}}',
    ],
)
def test_what_is_no_snapshot_is_refused(text):
    with pytest.raises(ValueError, match="must be a snapshot"):
        snapshot.translate(text)
