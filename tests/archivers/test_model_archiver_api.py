"""What tools import from `model_archiver`."""

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest

import model_archiver
from archive.reader import describe
from model_archiver import ModelArchiver, ModelArchiverConfig
from model_archiver.manifest_components.manifest import RuntimeType
from model_archiver.model_archiver_error import ModelArchiverError
from model_archiver.model_packaging import generate_model_archive, package_model
from model_archiver.model_packaging_utils import ModelExportUtils

MANIFEST = "MAR-INF/MANIFEST.json"


@pytest.fixture
def config():
    return ModelArchiverConfig("m", "h.py", "1.0", export_path="out", extra_files="labels.json,extra")


def test_a_config_makes_an_archive(config):
    assert ModelArchiver.generate_model_archive(config) is None
    found = describe(Path("out/m.mar"))
    assert {"h.py", "labels.json", "sub/b.txt"} < set(found.names)
    assert found.manifest.model_version == "1.0"


def test_the_function_is_the_same(config):
    generate_model_archive(config)
    with pytest.raises(ModelArchiverError, match=r"^out/m.mar already exists\.\nPlease specify --force/-f"):
        ModelArchiver.generate_model_archive(config)
    config.force = True
    generate_model_archive(config=config)


def test_a_missing_file_is_a_file_not_found_error(config):
    config.serialized_file = "nope.pt"
    with pytest.raises(FileNotFoundError, match=r"^File does not exist: nope\.pt$"):
        ModelArchiver.generate_model_archive(config)


def test_a_config_is_made_of_parsed_arguments(config):
    assert ModelArchiverConfig.from_args(Namespace(**asdict(config))) == config


def test_a_manifest_may_be_given(config):
    package_model(config, '{"model": {"modelName": "other"}}')
    assert describe(Path("out/m.mar")).manifest.model_name == "other"


def test_the_manifest_of_a_config(config):
    manifest = json.loads(ModelExportUtils.generate_manifest_json(config))
    assert list(manifest) == ["createdOn", "runtime", "model", "archiverVersion"]
    assert manifest["model"] == {"modelName": "m", "handler": "h.py", "modelVersion": "1.0"}


def test_a_wrong_source_date_epoch_is_told(config, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ModelArchiverError, match="SOURCE_DATE_EPOCH must be a number of seconds"):
        generate_model_archive(config)


def test_runtimes_and_version():
    assert [runtime.value for runtime in RuntimeType] == ["python", "python3", "LSP"]
    assert RuntimeType("LSP") is RuntimeType.LSP
    assert model_archiver.__version__ == "0.12.0"


@pytest.mark.parametrize(
    ("archive_format", "path"),
    [("default", "/e/m.mar"), ("zip-store", "/e/m.mar"), ("tgz", "/e/m.tar.gz"), ("no-archive", "/e/m")],
)
def test_where_the_archive_will_be(archive_format, path):
    assert ModelExportUtils.get_archive_export_path("/e", "m", archive_format) == path


def test_whether_the_archive_exists(source):
    check = ModelExportUtils.check_mar_already_exists
    assert check("m", None, False) == str(source)
    assert check("m", "out", False, "tgz") == "out"
    (source / "out/m.tar.gz").touch()
    assert check("m", "out", True, "tgz") == "out"
    with pytest.raises(ModelArchiverError, match=r"^out/m\.tar\.gz already exists\."):
        check("m", "out", False, "tgz")


def test_what_inputs_are_valid():
    assert ModelExportUtils.check_model_name_regex_or_exit("m-1_a.b") is None
    assert ModelExportUtils.validate_inputs("m", "out") is None
    assert ModelExportUtils.validate_inputs("m", "not/yet") is None
    for check in (
        lambda: ModelExportUtils.check_model_name_regex_or_exit("a b"),
        lambda: ModelExportUtils.validate_inputs("a b", "out"),
        lambda: ModelExportUtils.validate_inputs("m", "h.py"),
    ):
        with pytest.raises(ModelArchiverError):
            check()


@pytest.mark.parametrize(
    ("archive_format", "path"), [("default", "out/m.mar"), ("tgz", "out/m.tar.gz"), ("no-archive", "out/m")]
)
def test_a_directory_becomes_an_archive(archive_format, path):
    for _ in range(2):
        ModelExportUtils.archive("out", "m", "extra", '{"model": {}}', archive_format)
    assert set(describe(Path(path)).names) == {"a.txt", ".hidden", "old.pyc", "sub/b.txt", MANIFEST}


def test_the_only_file_of_a_kind():
    assert ModelExportUtils.find_unique(["a.txt", "b.json"], ".json") == "b.json"
    assert ModelExportUtils.find_unique(["a.txt"], ".json") is None
    with pytest.raises(ModelArchiverError, match=r"only one \.json file in the folder\. Found 2 files"):
        ModelExportUtils.find_unique(["a.json", "b.json"], ".json")
