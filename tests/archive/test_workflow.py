import json
import zipfile

import pytest
from workflow_archives import pack_workflow

from archive.errors import ArchiveNotFound, InvalidArchive, UnsafeArchive
from archive.formats.limits import Limits
from archive.reader import extract
from archive.workflow import MANIFEST_NAME, describe_workflow

SPEC = "dag: {f: [g]}"
HANDLER = "import os\nX = 1\ndef f(data, context): ...\nasync def g(data, context): ...\nclass H: ...\n"
MANIFEST = {
    "createdOn": "01/01/2024 00:00:00",
    "archiverVersion": "0.2.15",
    "workflow": {"workflowName": "w", "specFile": "w.yaml", "handler": "h.py"},
}


def pack(folder, manifest=MANIFEST, **files):
    path = folder / "w.war"
    with zipfile.ZipFile(path, "w") as archive:
        if manifest is not None:
            text = manifest if isinstance(manifest, str) else json.dumps(manifest)
            archive.writestr(MANIFEST_NAME, text)
        for name, content in ({"w.yaml": SPEC, "h.py": HANDLER} | files).items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_an_archive_of_the_archiver_is_read(tmp_path):
    path = pack_workflow(tmp_path / "store", "w", SPEC, HANDLER)
    described = describe_workflow(path)
    assert (described.name, described.handler) == ("w", "w_handler.py")
    assert described.spec == {"dag": {"f": ["g"]}}
    assert described.functions == {"os", "X", "f", "g", "H"}


def test_it_is_unpacked_like_a_model(tmp_path):
    unpacked = extract(pack(tmp_path), tmp_path / "unpacked")
    assert (unpacked / "h.py").read_text() == HANDLER


@pytest.mark.parametrize("source", ["from x import *", "if 1:\n    f = g = 1", "def broken(:"])
def test_functions_that_only_a_run_would_show_are_unknown(tmp_path, source):
    assert describe_workflow(pack(tmp_path, **{"h.py": source})).functions is None


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "Missing Workflow entry in manifest file."),
        ({}, "Missing Workflow entry in manifest file."),
        ({**MANIFEST, "workflow": {}}, "Workflow name is not defined."),
        ({**MANIFEST, "archiverVersion": None}, "Workflow archive version is not defined."),
        ({**MANIFEST, "createdOn": ""}, "Workflow archive createdOn is not defined."),
        ("{", "Failed to parse signature.json."),
        ("[]", "Failed to parse signature.json."),
        ({**MANIFEST, "workflow": {"workflowName": "w", "specFile": "w.yaml"}}, "'handler' in WAR-INF"),
    ],
)
def test_what_the_manifest_lacks_is_said_with_torchserves_words(tmp_path, manifest, message):
    with pytest.raises(InvalidArchive) as failure:
        describe_workflow(pack(tmp_path, manifest))
    assert str(failure.value).startswith(message)


@pytest.mark.parametrize("name", ["../w.yaml", "/etc/passwd"])
def test_files_outside_the_archive_are_refused(tmp_path, name):
    workflow = {**MANIFEST["workflow"], "specFile": name}
    with pytest.raises(UnsafeArchive):
        describe_workflow(pack(tmp_path, {**MANIFEST, "workflow": workflow}))


@pytest.mark.parametrize("name", ["w.yaml", "h.py"])
def test_files_that_are_not_there_are_named(tmp_path, name):
    with pytest.raises(InvalidArchive, match=f"the file '{name}', which is not in the archive"):
        describe_workflow(pack(tmp_path, **{name: None}))


def test_a_specification_that_is_no_yaml_is_refused(tmp_path):
    with pytest.raises(InvalidArchive, match=r"^Failed to parse yaml\.$"):
        describe_workflow(pack(tmp_path, **{"w.yaml": "dag: ["}))


@pytest.mark.parametrize(
    "spec",
    ["a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
    ), "dag: " + "[" * 5000],
)  # fmt: skip
def test_a_specification_that_expands_is_refused(tmp_path, spec):
    with pytest.raises(InvalidArchive):
        describe_workflow(pack(tmp_path, **{"w.yaml": spec}))


def test_a_bomb_is_refused(tmp_path):
    path = pack(tmp_path, bomb="0" * 3_000_000)
    with pytest.raises(UnsafeArchive):
        describe_workflow(path, Limits(total_bytes=1_000_000))


def test_a_specification_that_is_huge_is_refused(tmp_path):
    with pytest.raises(InvalidArchive):
        describe_workflow(pack(tmp_path, **{"w.yaml": "#" * 3_000_000}))


def test_a_module_with_the_name_of_marqs_own_is_refused(tmp_path):
    with pytest.raises(InvalidArchive, match="has the name of marq's own package"):
        describe_workflow(pack(tmp_path, **{"marq.py": "x = 1"}))


def test_a_file_that_is_no_zip_or_not_there(tmp_path):
    (tmp_path / "w.war").write_text("no")
    with pytest.raises(InvalidArchive):
        describe_workflow(tmp_path / "w.war")
    with pytest.raises(ArchiveNotFound):
        describe_workflow(tmp_path / "x.war")
