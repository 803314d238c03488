"""Our archives next to those of torch-model-archiver 0.12.0, whose path is in MARQ_REAL_ARCHIVER."""

import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

REAL = os.environ.get("MARQ_REAL_ARCHIVER", "")
OURS = Path(sys.executable).with_name("torch-model-archiver")
REAL_WORKFLOW = Path(REAL).parent / "torch-workflow-archiver"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not REAL, reason="MARQ_REAL_ARCHIVER is not set to the path of a torch-model-archiver 0.12.0"
    ),
]

FILES = ("--serialized-file", "weights.pt", "--model-file", "./net.py", "-r", "reqs.in", "-c", "conf.yml")
SUFFIXES = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}
OPTIONS = {
    "the least": ("--handler", "h.py"),
    "everything": ("--handler", "h", *FILES, "--extra-files", "extra,labels.json"),
    "a function": ("--handler", "h:handle"),
    "another directory": ("--handler", "../src/h.py", "--model-file", "extra/../net.py"),
    "a default handler": ("--handler", "image_classifier", "--serialized-file", "weights.pt"),
    "python3": ("--handler", "h", "--runtime", "python3"),
    "a library": ("--handler", "lib", "--runtime", "LSP"),
    "a default library": ("--handler", "TorchScriptHandler", "--runtime", "LSP"),
    "wildcards": ("--handler", "h", "--extra-files", "*.json,extra/[a-s]*,*.nothing"),
    "a comma at the end": ("--handler", "h", "--extra-files", "labels.json,"),
    "a file of the handler's name": ("--handler", "h", "--extra-files", "other.py,h.py"),
    "no version": ("--handler", "h", "-v", ""),
}
BOTH_REFUSE = {
    "a bad name": ("--handler", "h", "--model-name", "a b"),
    "a file as export path": ("--handler", "h", "--export-path", "h.py"),
    "a missing handler": ("--handler", "nope"),
    "a missing weights file": ("--handler", "h", "--serialized-file", "nope.pt"),
    "a missing extra file": ("--handler", "h", "--extra-files", "nope"),
    "no handler": (),
    "an unknown format": ("--handler", "h", "--archive-format", "rar"),
    "an unknown runtime": ("--handler", "h", "--runtime", "java"),
}
ONLY_OURS_TAKES = {
    "a function after the suffix": ("--handler", "h.py:handle"),
    "a space after the comma": ("--handler", "h", "--extra-files", "labels.json, weights.pt"),
    "a directory twice": ("--handler", "h", "--extra-files", "extra,extra"),
    "a library with its suffix": ("--handler", "lib.so", "--runtime", "LSP"),
    "an export path to be made": ("--handler", "h", "--export-path", "out/new"),
}


@dataclass
class Content:
    """What an archive holds, whatever its format."""

    files: dict[str, tuple[bytes, int]]  # content and permissions
    compression: set[int]
    manifest: dict


@pytest.fixture
def answer(tmp_path):
    """Runs an archiver. The real one deletes what has the model's name in the directory for temporary files,
    so it gets one of its own."""
    staging = tmp_path / "staging"
    staging.mkdir()

    def answer(program, *arguments):
        return subprocess.run(
            [program, *arguments],
            env={**os.environ, "TMPDIR": str(staging)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return answer


def messages(answer):
    """The lines before a traceback."""
    return answer.stderr.partition("Traceback")[0].splitlines()


def content(path, manifest_name="MAR-INF/MANIFEST.json"):
    if path.is_dir():
        found = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        files = {name: (file.read_bytes(), file.stat().st_mode & 0o777) for name, file in found.items()}
        kinds = set()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            kinds = {info.compress_type for info in archive.infolist()}
            files = {
                info.filename: (archive.read(info), stat.S_IMODE(info.external_attr >> 16))
                for info in archive.infolist()
            }
    else:
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            kinds = {int(member.type) for member in members}
            files = {member.name: (archive.extractfile(member).read(), member.mode) for member in members}
    (name,) = (name for name in files if name.endswith(manifest_name))
    return Content(files, kinds, json.loads(files.pop(name)[0]))


def assert_alike(ours, theirs):
    assert ours.files == theirs.files
    assert ours.compression == theirs.compression
    assert list(ours.manifest) == list(theirs.manifest)
    assert len(ours.manifest.pop("createdOn")) == len(theirs.manifest.pop("createdOn"))
    assert ours.manifest == theirs.manifest


@pytest.mark.parametrize("archive_format", SUFFIXES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_archives_are_alike(answer, options, archive_format):
    common = ("--model-name", "m", "-v", "1.0", *options, "--archive-format", archive_format)
    said = []
    for program, folder in ((REAL, "real"), (OURS, "ours")):
        Path(folder).mkdir()
        run = answer(program, *common, "--export-path", folder)
        assert run.returncode == 0
        said.append((run.stdout, run.stderr))
    assert said[0] == said[1]
    name = "m" + SUFFIXES[archive_format]
    assert_alike(content(Path("ours", name)), content(Path("real", name)))


@pytest.mark.parametrize("options", BOTH_REFUSE.values(), ids=BOTH_REFUSE)
def test_both_refuse_with_the_same_exit_code_and_message(answer, options):
    theirs, ours = (answer(program, "--model-name", "m", "-v", "1.0", *options) for program in (REAL, OURS))
    assert ours.returncode == theirs.returncode != 0
    if ours.returncode == 1:  # the real one ends with a traceback; a missing file has no other message
        assert "Traceback" not in ours.stderr
        missing = theirs.stderr.split()[-1].strip("'")
        assert messages(ours) == (messages(theirs) or [f"ERROR - File does not exist: {missing}"])
    else:
        errors = [a.stderr.partition("error: ")[2].partition("(choose")[0] for a in (ours, theirs)]
        assert errors[0] == errors[1]


@pytest.mark.parametrize("archive_format", SUFFIXES)
def test_both_replace_an_archive_only_by_force(answer, archive_format):
    answers = []
    for program, folder in ((REAL, "real"), (OURS, "ours")):
        Path(folder).mkdir()
        common = ("--model-name", "m", "-v", "1", "--handler", "h", "--export-path", folder)
        common += ("--archive-format", archive_format)
        runs = [answer(program, *common, *force) for force in ((), (), ("-f",))]
        answers.append([(run.returncode, messages(run)) for run in runs])
    theirs, ours = answers
    assert [code for code, _ in theirs] == [0, 1, 0]
    assert [(code, [line.replace("real/", "ours/") for line in lines]) for code, lines in theirs] == ours


@pytest.mark.parametrize("options", ONLY_OURS_TAKES.values(), ids=ONLY_OURS_TAKES)
def test_what_only_ours_takes(answer, options):
    common = ("--model-name", "m", "-v", "1.0", *options)
    assert answer(REAL, *common).returncode == 1
    assert answer(OURS, *common).returncode == 0


@pytest.mark.skipif(not REAL_WORKFLOW.is_file(), reason=f"there is no {REAL_WORKFLOW}")
def test_workflow_archives_are_alike(answer):
    common = ("--workflow-name", "flow", "--spec-file", "flow.yaml", "--handler", "h.py")
    for program, folder in ((REAL_WORKFLOW, "real"), (OURS.with_name("torch-workflow-archiver"), "ours")):
        Path(folder).mkdir()
        run = answer(program, *common, "--extra-files", "labels.json,extra/a.txt", "--export-path", folder)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    found = [content(Path(folder, "flow.war"), "WAR-INF/MANIFEST.json") for folder in ("ours", "real")]
    assert_alike(*found)
