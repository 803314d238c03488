"""`marq archive`: the check of the handler, and the command line of models' build scripts."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SMALL = ("archive", "--model-name", "m", "-v", "1.0", "--handler", "handler.py")
HANDLE = "def handle(data, context):\n    return data\n"


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    """A directory with a model; the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handler.py").write_text(HANDLE)
    (tmp_path / "net.py").write_text("class Net: pass\n")
    (tmp_path / "weights.pt").write_bytes(bytes(10))
    (tmp_path / "requirements.txt").write_text("no-such-package\n")
    (tmp_path / "model-config.yaml").write_text("batchSize: 4\n")
    (tmp_path / "labels.txt").write_text("a\n")
    return tmp_path


def manifest():
    with zipfile.ZipFile("m.mar") as packed:
        return json.loads(packed.read("MAR-INF/MANIFEST.json"))["model"]


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["written", "dry"])
@pytest.mark.parametrize(
    ("code", "cause", "advice"),
    [
        ("import no_such_package\n", "handler.py, line 1: no module named", "--requirements-file"),
        ("def handle(:\n", "handler.py, line 1: invalid syntax", "Correct the file"),
        ("raise ValueError('no')\n", "handler.py, line 1: ValueError: no", "Correct the file"),
        ("x = 1\n", "handler has neither a function 'handle'", "Define handle(data, context)"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_refused(run, sources, code, cause, advice, dry):
    (sources / "handler.py").write_text(code)
    result = run(*SMALL, *dry)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: the handler cannot be imported: {cause}")
    assert advice in result.stderr
    assert result.stderr.endswith("--no-check packs it as it is.\n")
    assert result.stderr.count("\n") == 1
    assert not Path("m.mar").exists()


def test_no_check_packs_it_as_it_is(run, sources):
    (sources / "handler.py").write_text("def handle(:\n")
    result = run(*SMALL, "--no-check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert Path("m.mar").exists()


def test_a_missing_package_with_requirements_is_only_a_warning(run, sources):
    (sources / "handler.py").write_text("import no_such_package\n")
    result = run(*SMALL, "-r", "requirements.txt")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: the handler could not be checked: handler.py, line 1: ")
    assert "if requirements.txt names it" in result.stderr
    assert Path("m.mar").exists()


def test_the_runtime_lsp_is_not_checked(run, sources):
    (sources / "lib.so").touch()
    assert run(*SMALL[:-1], "lib", "--runtime", "LSP").exit_code == 0


def test_the_command_line_of_build_scripts_packs_the_model_file_as_handler():
    # Given the console script, and the spelling of such scripts
    command = [
        *(Path(sys.executable).with_name("marq"), "archive", "--model_name", "m"),
        *("--model_file", "handler.py", "--config_file", "model-config.yaml"),
        *("--requirements_file", "requirements.txt", "--checkpoint_file", "weights.pt"),
        *("--version", "2.0", "--extra_files", "labels.txt,net.py"),
    ]
    # When it is run
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # Then everything is in its place
    assert (answer.returncode, answer.stderr) == (0, "")
    assert manifest() == {
        "modelName": "m",
        "serializedFile": "weights.pt",
        "handler": "handler.py",
        "modelFile": "handler.py",
        "modelVersion": "2.0",
        "requirementsFile": "requirements.txt",
        "configFile": "model-config.yaml",
    }
    with zipfile.ZipFile("m.mar") as packed:
        assert {"labels.txt", "net.py", "handler.py", "weights.pt"} < set(packed.namelist())


def test_a_model_file_without_handler_gets_the_default_one(run):
    options = ("--model_file", "net.py", "--checkpoint-file", "weights.pt", "--no-check")
    assert run(*SMALL[:-2], *options).exit_code == 0
    assert manifest()["handler"] == "base_handler"


def test_a_handler_that_is_given_is_taken(run):
    assert run(*SMALL, "--model_file", "net.py").exit_code == 0
    assert manifest()["handler"] == "handler.py"


def test_without_handler_and_model_file_it_is_wrong_usage(run):
    result = run(*SMALL[:-2])
    assert result.exit_code == 2
    assert "Give --handler, or --model-file" in result.stderr


def test_a_model_file_that_is_missing_is_told(run):
    result = run(*SMALL[:-2], "--model_file", "nope.py")
    assert (result.exit_code, result.stderr) == (1, "Error: File does not exist: nope.py\n")


def test_help_tells_of_the_other_spellings(run):
    text = " ".join(run("archive", "--help").stdout.split())
    assert "--checkpoint_file (the serialized file)" in text
    assert "--no-check" in text
