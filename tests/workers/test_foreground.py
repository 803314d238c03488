"""`marq run`: a handler is tried without a server."""

import subprocess
from pathlib import Path

import pytest
from support import MARQ

from archive.packing.writer import ArchiveSpec, write

HANDLER = """
def handle(data, context):
    if data is None:
        return None
    print("rows:", len(data))
    answers = []
    for row in data:
        body = row["body"]
        secret = 40 + 2
        if body == "fail":
            raise KeyError("no such row")
        answers.append({"body": body, "type": type(body).__name__})
    return answers
"""
BROKEN = """
import a_package_that_is_not_there

def handle(data, context):
    return data
"""


@pytest.fixture
def marq_run(tmp_path):
    """marq_run(archive, "text", ..., options=[...]): each text is a file."""

    def run(archive, *texts, options=(), stdin=""):
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"{number}.txt")
            files[-1].write_text(text)
        command = [MARQ, "run", archive.name, *files, *options]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, cwd=archive.parent, input=stdin
        )

    return run


@pytest.fixture(scope="module")
def archive(make_archive, tmp_path_factory) -> Path:
    return make_archive(tmp_path_factory.mktemp("store"), "rows", HANDLER)


def test_the_files_are_one_batch_and_the_answers_alone_are_on_stdout(marq_run, archive):
    done = marq_run(archive, "one", "two")
    assert (done.returncode, "rows: 2" in done.stderr) == (0, True)
    assert done.stdout.count('"type": "str"') == 2
    assert "rows:" not in done.stdout
    assert "rows 1.0 on cpu: loaded in" in done.stderr


def test_an_exception_is_shown_with_the_handlers_frames_and_an_exit_code(marq_run, archive):
    done = marq_run(archive, "fail")
    assert done.returncode == 1
    assert "status 503" in done.stderr
    trace = done.stderr.partition("Traceback")[2]
    assert trace.count("  File ") == 1
    assert "rows_handler.py" in trace
    assert "KeyError: 'no such row'" in trace


def test_the_debugger_stands_in_the_frame_that_has_raised(marq_run, archive):
    done = marq_run(archive, "fail", options=["--pdb"], stdin="p secret\nq\n")
    assert "(Pdb) 42" in done.stderr
    assert done.returncode == 1


def test_a_model_that_cannot_be_loaded_names_the_setting_that_installs_its_requirements(marq_run, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "requirements.txt").write_text("a-package\n")
    store = tmp_path / "store"
    store.mkdir()
    spec = ArchiveSpec(
        model_name="broken", handler=str(tmp_path / "broken.py"), version="1.0", export_path=store,
        requirements_file=str(tmp_path / "requirements.txt"),
    )  # fmt: skip
    done = marq_run(write(spec), "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No module named 'a_package_that_is_not_there'" in done.stderr
    assert "requirements.txt of the archive is not installed: install_py_dep_per_model=true" in done.stderr
    assert "workers/" not in done.stderr


def test_a_file_that_is_not_an_archive_is_one_line(marq_run, tmp_path):
    (tmp_path / "cat.mar").write_text("no zip")
    done = marq_run(tmp_path / "cat.mar", "x")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cat.mar" in done.stderr


def test_the_debugger_needs_standard_input_for_itself(archive):
    command = [MARQ, "run", archive, "-", "--pdb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, input="x")
    assert done.returncode == 2
    assert "reads standard input" in " ".join(done.stderr.split())
