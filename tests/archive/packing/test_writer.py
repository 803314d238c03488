import gzip
import json
import logging
import os
import re
import tarfile
import zipfile
from dataclasses import replace

import pytest

from archive.errors import PackagingError
from archive.packing.writer import ArchiveSpec, write
from archive.reader import describe, extract

MANIFEST = "MAR-INF/MANIFEST.json"
FORMATS = ["default", "zip-store", "tgz", "no-archive"]


@pytest.fixture
def source(tmp_path, monkeypatch):
    folder = tmp_path / "src"
    files = {
        "h.py": "handler",
        "model.py": "model",
        "w.pt": "weights",
        "reqs.in": "numpy",
        "conf.yml": "batchSize: 2",
        "index_to_name.json": "{}",
        "extra/a.txt": "a",
        "extra/sub/b.txt": "b",
        "extra/.hidden": "kept",
        "extra/old.pyc": "kept",
        "extra/.git/config": "dropped",
        "extra/sub/__pycache__/b.pyc": "dropped",
        "extra/__MACOSX/x": "dropped",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "extra/empty").mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def spec(source, tmp_path):
    export = tmp_path / "out"
    export.mkdir()
    return ArchiveSpec("my-model", "h.py", "1.0", export_path=export)


def names(path):
    return set(describe(path).names)


def refused(spec) -> str:
    before = sorted(spec.export_path.rglob("*"))
    with pytest.raises(PackagingError) as caught:
        write(spec)
    assert sorted(spec.export_path.rglob("*")) == before
    return str(caught.value)


@pytest.mark.parametrize("archive_format", FORMATS)
def test_what_is_written_can_be_read(spec, tmp_path, archive_format):
    path = write(
        replace(
            spec,
            serialized_file="w.pt",
            model_file="./model.py",
            extra_files=("extra", " index_to_name.json"),
            requirements_file="reqs.in",
            config_file="conf.yml",
            archive_format=archive_format,
        )
    )
    suffix = {"tgz": ".tar.gz", "no-archive": ""}.get(archive_format, ".mar")
    assert path == spec.export_path / f"my-model{suffix}"
    assert list(spec.export_path.iterdir()) == [path]
    description = describe(path)
    manifest = description.manifest
    assert manifest.raw["model"] == {
        "modelName": "my-model",
        "serializedFile": "w.pt",
        "handler": "h.py",
        "modelFile": "model.py",
        "modelVersion": "1.0",
        "requirementsFile": "reqs.in",
        "configFile": "conf.yml",
    }
    assert manifest.raw["runtime"] == "python"
    assert manifest.archiver_version == "0.12.0"
    assert re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", manifest.created_on)
    assert description.config.batch_size == 2
    assert set(description.names) == {
        *("h.py", "model.py", "w.pt", "reqs.in", "conf.yml", "index_to_name.json"),
        *("a.txt", "sub/b.txt", ".hidden", "old.pyc", MANIFEST),
    }
    unpacked = extract(path, tmp_path / "root")
    assert (unpacked / "sub/b.txt").read_text() == "b"


def test_a_mar_has_its_files_in_order_and_the_manifest_last(spec):
    spec = replace(spec, extra_files=("extra",), force=True)
    for archive_format, method in (("default", zipfile.ZIP_DEFLATED), ("zip-store", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(write(replace(spec, archive_format=archive_format))) as archive:
            infos = archive.infolist()
        assert [info.filename for info in infos] == [
            ".hidden",
            "a.txt",
            "h.py",
            "old.pyc",
            "sub/b.txt",
            MANIFEST,
        ]
        assert {info.compress_type for info in infos} == {method}


def test_a_tgz_has_all_files_in_one_directory_and_belongs_to_nobody(spec):
    with tarfile.open(write(replace(spec, archive_format="tgz"))) as archive:
        infos = archive.getmembers()
    assert [info.name for info in infos] == ["my-model/h.py", f"my-model/{MANIFEST}"]
    assert {(info.uid, info.gid, info.uname, info.gname) for info in infos} == {(0, 0, "", "")}
    assert (infos[-1].mtime, infos[-1].mode) == (0, 0o644)


def test_a_version_that_is_empty_is_left_out(spec):
    assert "modelVersion" not in describe(write(replace(spec, version=""))).manifest.raw["model"]


@pytest.mark.parametrize("handler", ["h", "h.py", "h:func", "h.py:func", "./h", "../src/h.py:func"])
def test_a_handler_may_have_a_suffix_and_a_function(spec, handler):
    path = write(replace(spec, handler=handler))
    assert describe(path).manifest.handler == handler.rpartition("/")[2]
    assert names(path) == {"h.py", MANIFEST}


def test_a_directory_may_have_py_in_its_name(spec, source):
    (source / ".pyenv").mkdir()
    (source / ".pyenv/other.py").touch()
    assert names(write(replace(spec, handler=".pyenv/other"))) == {"other.py", MANIFEST}


@pytest.mark.parametrize("runtime", ["python", "python3"])
def test_a_default_handler_is_not_copied(spec, runtime):
    path = write(replace(spec, handler="image_classifier", runtime=runtime))
    assert names(path) == {MANIFEST}
    assert describe(path).manifest.handler == "image_classifier"


def test_handlers_of_lsp_are_libraries(spec, source):
    (source / "lib.so").touch()
    assert names(write(replace(spec, handler="lib", runtime="LSP"))) == {"lib.so", MANIFEST}
    path = write(replace(spec, handler="TorchScriptHandler", runtime="LSP", force=True))
    assert names(path) == {MANIFEST}


def test_later_files_replace_earlier_ones_of_the_same_name(spec, source):
    (source / "other").mkdir()
    (source / "other/w.pt").write_text("new")
    path = write(replace(spec, serialized_file="w.pt", extra_files=("other",)))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("w.pt") == b"new"


def test_extra_files_may_be_wildcards(spec, caplog):
    path = write(replace(spec, extra_files=("*.json", "extra/[a-s]*", "", "*.nothing")))
    assert names(path) == {"h.py", "index_to_name.json", "a.txt", "b.txt", "old.pyc", MANIFEST}
    assert caplog.messages == ["Given wildcard pattern did not match any file: *.nothing"]


def test_a_file_may_look_like_a_wildcard(spec, source):
    (source / "w[1].pt").touch()
    assert "w[1].pt" in names(write(replace(spec, extra_files=("w[1].pt",))))


def test_links_are_packed_as_what_they_lead_to(spec, source):
    (source / "extra/link").symlink_to("sub")
    (source / "extra/file").symlink_to("a.txt")
    for archive_format in FORMATS:
        path = write(replace(spec, extra_files=("extra",), archive_format=archive_format, force=True))
        assert {"link/b.txt", "file"} <= names(path)
    assert not (spec.export_path / "my-model/file").is_symlink()


def test_a_link_in_a_circle_is_refused(spec, source):
    (source / "extra/sub/up").symlink_to("..")
    assert "is a link to a directory above it" in refused(replace(spec, extra_files=("extra",)))


def test_the_manifest_of_an_unpacked_archive_is_not_packed_again(spec):
    unpacked = write(replace(spec, archive_format="no-archive"))
    path = write(replace(spec, model_name="again", extra_files=(str(unpacked),)))
    assert describe(path).manifest.model_name == "again"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["h.py", MANIFEST]


def test_one_name_for_a_file_and_a_directory_is_refused(spec, source):
    (source / "sub").touch()
    assert "need the same name 'sub'" in refused(replace(spec, extra_files=("extra", "sub")))


@pytest.mark.parametrize("name", ["", "-m", "a b", "m/x", "../m", "m\n", "\u00e9"])
def test_a_model_name_with_special_characters_is_refused(spec, name):
    assert refused(replace(spec, model_name=name)) == (
        "Model name contains special characters.\n"
        r"The allowed regular expression filter for model name is: ^[A-Za-z0-9][A-Za-z0-9_\-.]*$"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtime": "java"}, "The runtime 'java' is unknown; allowed are python, python3, LSP."),
        (
            {"archive_format": "rar"},
            "The archive format 'rar' is unknown; allowed are default, zip-store, tgz, no-archive.",
        ),
        ({"handler": ""}, "The handler is missing; give a default handler's name or a path."),
        ({"handler": "nope"}, "File does not exist: nope.py"),
        ({"handler": "extra"}, "File does not exist: extra.py"),
        ({"serialized_file": "nope.pt"}, "File does not exist: nope.pt"),
        ({"model_file": "extra"}, "File does not exist: extra"),
        ({"requirements_file": "nope.txt"}, "File does not exist: nope.txt"),
        ({"config_file": "nope.yaml"}, "File does not exist: nope.yaml"),
        ({"extra_files": ("nope",)}, "File does not exist: nope"),
    ],
)
def test_what_is_wrong_is_told(spec, changes, message):
    assert refused(replace(spec, **changes)) == message


@pytest.mark.parametrize("archive_format", FORMATS)
def test_an_existing_archive_is_replaced_only_by_force(spec, archive_format, caplog):
    spec = replace(spec, archive_format=archive_format)
    path = write(spec)
    assert refused(replace(spec, version="2.0")) == (
        f"{path} already exists.\n"
        "Please specify --force/-f option to overwrite the model archive output file.\n"
        "See -h/--help for more details."
    )
    assert write(replace(spec, version="2.0", force=True)) == path
    assert describe(path).manifest.model_version == "2.0"
    assert caplog.messages == [f"Overwriting {path} ..."]
    assert list(spec.export_path.iterdir()) == [path]


def test_force_keeps_other_files_of_a_directory(spec):
    spec = replace(spec, archive_format="no-archive", extra_files=("extra",))
    path = write(spec)
    (path / "mine").touch()
    (path / "sub/mine").touch()
    write(replace(spec, force=True))
    assert {"mine", "sub/mine", "a.txt"} <= names(path)


def test_a_directory_can_be_made_of_its_own_files(spec):
    # Given a directory that has the model's name and is its source
    path = write(replace(spec, archive_format="no-archive", extra_files=("extra",)))
    again = replace(spec, archive_format="no-archive", extra_files=(str(path),), version="2.0", force=True)
    assert write(again) == path
    assert (path / "a.txt").read_text() == "a"
    assert describe(path).manifest.model_version == "2.0"


def test_an_export_path_that_is_missing_is_created(spec, caplog):
    export = spec.export_path / "new/er"
    assert write(replace(spec, export_path=export)).parent == export
    assert caplog.messages == [f"Export directory ({export}) does not exist. Creating..."]


def test_an_export_path_that_is_a_file_is_refused(spec, source):
    assert refused(replace(spec, export_path=source / "h.py")) == (
        f"Given export-path {source / 'h.py'} is not a directory. Point to a valid export-path directory."
    )


def test_an_archive_that_cannot_be_saved_is_told(spec):
    path = spec.export_path / "my-model.mar"
    path.mkdir()
    assert refused(replace(spec, force=True)) == (
        f'Failed to save the model-archive to model-path "{spec.export_path}". '
        "Check the file permissions and retry."
    )


def test_an_export_path_that_cannot_be_made_is_told(spec, source):
    with pytest.raises(PackagingError, match="Failed to save the model-archive"):
        write(replace(spec, export_path=source / "h.py/sub"))


def test_files_older_than_zip_are_packed(spec, source):
    os.utime(source / "h.py", (0, 0))
    assert names(write(spec)) == {"h.py", MANIFEST}


def test_the_manifest_reads_as_the_original_tool_writes_it(spec, caplog):
    caplog.set_level(logging.INFO)
    with tarfile.open(write(replace(spec, archive_format="tgz"))) as archive:
        text = archive.extractfile(f"my-model/{MANIFEST}").read().decode()
    assert text.startswith('{\n  "createdOn": "')
    assert list(json.loads(text)) == ["createdOn", "runtime", "model", "archiverVersion"]
    assert gzip.decompress((spec.export_path / "my-model.tar.gz").read_bytes())
    assert caplog.messages == []
