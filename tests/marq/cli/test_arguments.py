import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from marq.cli.arguments import join_values


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ([], []),
        (["--models", "all"], ["--models=all"]),
        (
            ["--models", "a.mar", "b=b.mar", "--ts-config", "x"],
            ["--models=a.mar,b=b.mar", "--ts-config", "x"],
        ),
        (["--models", "a.mar,", "b.mar"], ["--models=a.mar,b.mar"]),
        (["--models=a.mar", "b.mar", "-h"], ["--models=a.mar,b.mar", "-h"]),
        (["--models", "a.mar", "--models", "b.mar"], ["--models=a.mar", "--models=b.mar"]),
        (["--models", "x=http://h/a.mar?b=c"], ["--models=x=http://h/a.mar?b=c"]),
        (["--ts-config", "x"], ["--ts-config", "x"]),
    ],
)
def test_models_takes_all_values_up_to_the_next_option(given, joined):
    assert join_values(given, "--models") == joined


@pytest.mark.parametrize("given", [["--models"], ["--models", "--ts-config", "x"], ["--models", ","]])
def test_models_without_a_value_is_refused(given):
    with pytest.raises(typer.BadParameter, match="at least one value"):
        join_values(given, "--models")


@pytest.mark.parametrize("arguments", [["digits", "-1"], ["digits", "2", "--max", "-1"]])
def test_scale_says_which_numbers_it_takes(arguments):
    command = [Path(sys.executable).with_name("marq"), "scale", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "-1 is not in the range x>=0." in done.stderr


def completed(directory, line):
    """What bash offers at the end of a line."""
    environment = os.environ | {
        "_MARQ_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    command = [Path(sys.executable).with_name("marq")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=directory, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("command", ["start --models ", "gateway --models "])
def test_the_shell_completes_the_archives_that_a_server_can_load(command, tmp_path):
    (tmp_path / "cat.mar").touch()
    (tmp_path / "notes.txt").touch()
    assert completed(tmp_path, f"marq {command}") == ["all", "cat.mar"]


def test_the_shell_completes_the_archives_of_a_store(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/dog.mar").touch()
    assert completed(tmp_path, "marq start --model-store store --models d") == ["dog.mar"]
    assert completed(tmp_path / "store", "marq register ") == ["dog.mar"]
