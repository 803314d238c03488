import json

import pytest

from archive.errors import InvalidArchive
from archive.manifest import Manifest


def parse(**fields) -> Manifest:
    return Manifest.parse(json.dumps(fields).encode())


def test_all_fields_are_read():
    content = {
        "createdOn": "01/02/2024 03:04:05",
        "runtime": "python3",
        "archiverVersion": "0.12.0",
        "model": {
            "modelName": "m",
            "modelVersion": "2.0",
            "handler": "h:f",
            "serializedFile": "w.pt",
            "modelFile": "model.py",
            "requirementsFile": "r.txt",
            "configFile": "c.yaml",
        },
    }
    assert parse(**content) == Manifest(
        raw=content,
        runtime="python3",
        model_name="m",
        model_version="2.0",
        handler="h:f",
        serialized_file="w.pt",
        model_file="model.py",
        requirements_file="r.txt",
        config_file="c.yaml",
        archiver_version="0.12.0",
        created_on="01/02/2024 03:04:05",
    )


def test_an_archive_without_manifest_has_all_defaults():
    assert Manifest.parse(None) == Manifest(raw=None, runtime="python", model_name=None, model_version="1.0")


def test_a_manifest_of_the_mms_era_is_read():
    manifest = parse(
        specificationVersion="1.0",
        implementationVersion="1.0",
        modelServerVersion="1.0",
        description="d",
        model={
            "modelName": "noop",
            "description": "d",
            "handler": "service.py:handle",
            "extensions": {"a": [1]},
        },
    )
    assert (manifest.model_name, manifest.model_version) == ("noop", "1.0")
    assert manifest.runtime == "python"
    assert len(manifest.warnings) == 2


def test_numbers_stand_for_strings_as_they_are_written_and_keep_their_type_in_raw():
    manifest = Manifest.parse(b'{"archiverVersion": 1, "model": {"modelName": true, "modelVersion": 1.10}}')
    assert (manifest.model_version, manifest.archiver_version, manifest.model_name) == ("1.10", "1", "true")
    assert manifest.raw is not None
    assert manifest.raw["model"]["modelVersion"] == 1.1


def test_a_byte_order_mark_is_no_part_of_the_json():
    assert Manifest.parse(b'\xef\xbb\xbf{"model": {"modelName": "m"}}').model_name == "m"


def test_a_manifest_may_have_no_model_key():
    assert parse(runtime="LSP").model_name is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b'{"model": []}',
        b'{"model": {"modelName": {}}}',
        b'{"model": {"handler": ["h"]}}',
        b'{"model": {"modelName": "\\ud800"}}',
        b"[" * 100_000,
        b'{"model": {"modelVersion": ' + b"1" * 5000 + b"}}",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_manifest_is_refused_with_torchserves_text(data):
    with pytest.raises(InvalidArchive, match=r"^Failed to parse signature.json\.$") as caught:
        Manifest.parse(data)
    assert caught.value.reason


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": None}, "Missing Model entry in manifest file."),
        ({"model": {"modelVersion": " "}}, "Model version is not defined."),
        ({"runtime": "java", "model": {}}, "Runtime is not defined or invalid."),
        ({"runtime": "Python", "model": {}}, "Runtime is not defined or invalid."),
        ({"runtime": None, "model": {}}, "Runtime is not defined or invalid."),
    ],
)
def test_each_missing_value_has_torchserves_text(fields, message):
    with pytest.raises(InvalidArchive) as caught:
        parse(**fields)
    assert str(caught.value) == message


@pytest.mark.parametrize("key", ["configFile", "requirementsFile"])
@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a\\b", "a\0b"])
def test_files_that_the_server_opens_must_be_in_the_archive(key, name):
    with pytest.raises(InvalidArchive, match=key):
        parse(model={key: name})


def test_the_requested_name_wins_and_one_is_needed():
    assert parse(model={"modelName": "m"}).registered_name() == "m"
    assert parse(model={"modelName": "m"}).registered_name("other") == "other"
    with pytest.raises(InvalidArchive, match=r"^Model name is not defined\.$"):
        parse(model={}).registered_name()
