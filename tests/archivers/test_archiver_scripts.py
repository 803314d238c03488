"""Both archivers as installed programs and as modules."""

import subprocess
import sys
import zipfile

import pytest

MODEL = ("--model-name", "m", "--version", "1.0", "--handler", "h.py")
WORKFLOW = ("--workflow-name", "f", "--spec-file", "flow.yaml", "--handler", "h.py")
BOTH = pytest.mark.parametrize(
    ("program", "arguments", "result"),
    [("torch-model-archiver", MODEL, "m.mar"), ("torch-workflow-archiver", WORKFLOW, "f.war")],
)


@BOTH
def test_success_prints_nothing_and_exits_with_0(script, program, arguments, result):
    answer = script(program, *arguments)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert zipfile.is_zipfile(result)


@BOTH
def test_wrong_usage_exits_with_2(script, program, arguments, result):
    answer = script(program, *arguments[:-2], "--nonsense")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"usage: {program} ")


@BOTH
def test_help_exits_with_0_and_names_every_option(script, program, arguments, result):
    answer = script(program, "-h")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert all(option in answer.stdout for option in (*arguments[::2], "--export-path", "--extra-files"))


def test_an_error_of_the_model_archiver_is_logged_without_traceback(script):
    answer = script("torch-model-archiver", *MODEL, "--model-name", "a b")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("ERROR - Model name contains special characters.\nThe allowed regular")
    assert "Traceback" not in answer.stderr


def test_a_missing_file_of_the_model_archiver_is_logged_without_traceback(script):
    answer = script("torch-model-archiver", *MODEL, "--config-file", "nope.yaml")
    assert answer.returncode == 1
    assert answer.stderr == "ERROR - File does not exist: nope.yaml\n"


def test_an_error_of_the_workflow_archiver_is_logged_without_traceback(script):
    answer = script("torch-workflow-archiver", *WORKFLOW, "--export-path", "nope")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == (
        "ERROR - Given export-path nope is not a directory. Point to a valid export-path directory.\n"
    )


def test_a_warning_is_on_stderr(script):
    script("torch-model-archiver", *MODEL, "--export-path", "out")
    answer = script("torch-model-archiver", *MODEL, "--export-path", "out", "-f")
    assert (answer.returncode, answer.stdout) == (0, "")
    assert answer.stderr == "WARNING - Overwriting out/m.mar ...\n"


@pytest.mark.parametrize(
    ("module", "arguments"), [("model_archiver", MODEL), ("workflow_archiver", WORKFLOW)]
)
def test_a_module_is_the_same_program(module, arguments):
    command = [sys.executable, "-m", module, *arguments]
    assert subprocess.run(command, timeout=60).returncode == 0
    again = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert again.returncode == 1
    assert "already exists.\nPlease specify --force/-f option" in again.stderr
