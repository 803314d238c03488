"""`torch-workflow-archiver` option by option and message by message."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from workflow_archiver import __version__
from workflow_archiver.arg_parser import ArgParser
from workflow_archiver.workflow_archiver_error import WorkflowArchiverError
from workflow_archiver.workflow_packaging import generate_workflow_archive, package_workflow

NEEDED = ("--workflow-name", "f", "--spec-file", "flow.yaml", "--handler", "h.py")
MANIFEST = "WAR-INF/MANIFEST.json"


@pytest.fixture
def pack(in_process):
    return lambda *arguments: in_process(generate_workflow_archive, *arguments)


def refused(answer):
    """The one message of a command that failed as it should."""
    assert (answer.code, answer.error, answer.stderr) == (1, None, "")
    (message,) = answer.log
    return message.removeprefix("ERROR - ")


def test_defaults_of_all_options(source):
    parsed = ArgParser.workflow_archiver_args_parser().parse_args(NEEDED[:4])
    assert parsed.__dict__ == {
        "workflow_name": "f",
        "spec_file": "flow.yaml",
        "handler": None,
        "export_path": str(source),
        "force": False,
        "extra_files": None,
    }


def test_an_archive_is_a_deflated_zip_of_the_files_and_the_manifest(pack):
    options = ("--extra-files", "labels.json,extra/a.txt", "--export-path", "out")
    answer = pack(*NEEDED, *options)
    assert (answer.code, answer.log) == (0, [])
    with zipfile.ZipFile("out/f.war") as archive:
        infos = archive.infolist()
        manifest = json.loads(archive.read(MANIFEST))
    assert [info.filename for info in infos] == ["a.txt", "flow.yaml", "h.py", "labels.json", MANIFEST]
    assert {info.compress_type for info in infos} == {zipfile.ZIP_DEFLATED}
    assert re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", manifest.pop("createdOn"))
    assert manifest == {
        "workflow": {"workflowName": "f", "specFile": "flow.yaml", "handler": "h.py"},
        "archiverVersion": "0.2.15",
    }
    assert __version__ == "0.2.15"


def test_the_manifest_has_names_without_directories(pack):
    assert pack(*NEEDED, "--spec-file", "extra/../flow.yaml", "--handler", "../src/h.py").code == 0
    with zipfile.ZipFile("f.war") as archive:
        workflow = json.loads(archive.read(MANIFEST))["workflow"]
    assert (workflow["specFile"], workflow["handler"]) == ("flow.yaml", "h.py")


@pytest.mark.parametrize("missing", ["--workflow-name", "--spec-file"])
def test_a_missing_option_exits_with_2(pack, missing):
    at = NEEDED.index(missing)
    answer = pack(*NEEDED[:at], *NEEDED[at + 2 :])
    assert answer.code == 2
    assert f"the following arguments are required: {missing}" in answer.stderr


def test_a_missing_handler_is_told(pack):
    assert refused(pack(*NEEDED[:4])) == (
        "The handler is missing; give the workflow's Python file with --handler."
    )


@pytest.mark.parametrize("name", ["a b", "_f", "a/b"])
def test_bad_name(pack, name):
    assert refused(pack(*NEEDED, "--workflow-name", name)) == (
        "Workflow name contains special characters.\n"
        r"The allowed regular expression filter for workflow name is: ^[A-Za-z0-9][A-Za-z0-9_\-.]*$"
    )


def test_output_exists_without_and_with_force(pack, source):
    assert pack(*NEEDED).code == 0
    assert refused(pack(*NEEDED)) == (
        f"{source / 'f.war'} already exists.\n"
        "Please specify --force/-f option to overwrite the workflow archive output file.\n"
        "See -h/--help for more details."
    )
    for force in ("-f", "--force"):
        answer = pack(*NEEDED, force)
        assert (answer.code, answer.log) == (0, [f"WARNING - Overwriting {source / 'f.war'} ..."])


@pytest.mark.parametrize("export", ["nope", "h.py"])
def test_export_path_must_be_a_directory(pack, export):
    assert refused(pack(*NEEDED, "--export-path", export)) == (
        f"Given export-path {export} is not a directory. Point to a valid export-path directory."
    )


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--spec-file", "nope.yaml", "nope.yaml"),
        ("--handler", "h", "h"),
        ("--handler", "h.py:f", "h.py:f"),
        ("--extra-files", "labels.json,nope", "nope"),
        ("--extra-files", "*.json", "*.json"),
    ],
)
def test_missing_source_file(pack, option, value, told):
    assert refused(pack(*NEEDED, option, value)) == f"File does not exist: {told}"
    assert not Path("f.war").exists()


def test_a_directory_is_no_extra_file(pack):
    assert refused(pack(*NEEDED, "--extra-files", "extra")) == (
        "extra is a directory; a workflow archive is made of single files."
    )


def test_io_error_while_writing(pack):
    Path("out/f.war").mkdir()
    answer = pack(*NEEDED, "--export-path", "out", "-f")
    assert answer.code == 1
    assert answer.log[-1] == (
        'ERROR - Failed to save the workflow-archive to workflow-path "out". '
        "Check the file permissions and retry."
    )


def test_a_manifest_may_be_given(source):
    args = ArgParser.workflow_archiver_args_parser().parse_args(NEEDED)
    package_workflow(args, '{"mine": 1}')
    with zipfile.ZipFile("f.war") as archive:
        assert json.loads(archive.read(MANIFEST)) == {"mine": 1}
    with pytest.raises(WorkflowArchiverError, match="already exists"):
        package_workflow(args)
