"""The container's entry point: derived images and compose files write commands as for TorchServe's image."""

import os
import subprocess
from pathlib import Path

import pytest

ENTRY_POINT = Path(__file__).parents[2] / "deploy" / "entrypoint.sh"


@pytest.fixture
def words(tmp_path):
    """Runs the entry point with a stand-in for tini that prints the words which it is given."""
    tini = tmp_path / "tini"
    tini.write_text('#!/bin/sh\nshift\nfor word; do echo "[$word]"; done\n')
    tini.chmod(0o755)

    def run(*command: str, **variables: str) -> list[str]:
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
        answer = subprocess.run(
            ["sh", ENTRY_POINT, *command], env=environment, capture_output=True, text=True, check=True
        )
        return [line[1:-1] for line in answer.stdout.splitlines()]

    return run


def test_variables_in_an_exec_form_command_are_filled_in(words):
    command = ["torchserve", "--start", "--models=$MODEL_NAME.mar"]
    assert words(*command, MODEL_NAME="gpt2") == [
        *("torchserve", "--start", "--models=gpt2.mar", "--foreground"),
    ]


def test_a_command_in_one_string_is_split(words):
    assert words("torchserve --start --model-store /models --models 'my net'=a.mar") == [
        *("torchserve", "--start", "--model-store", "/models", "--models", "my net=a.mar", "--foreground"),
    ]


def test_a_word_of_flag_and_value_is_split(words):
    assert words("torchserve", "--start", "--model-store /models") == [
        *("torchserve", "--start", "--model-store", "/models", "--foreground"),
    ]


def test_several_commands_in_one_string_are_run_by_a_shell(words):
    line = "torchserve --start && tail -f /dev/null"
    assert words(line) == ["sh", "-c", line]


def test_an_address_with_an_ampersand_stays_one_word(words):
    model = "m=https://example.org/m.mar?a=1&b=2"
    assert words("torchserve", "--start", "--models", model)[3] == model


def test_other_commands_keep_their_words(words):
    assert words("sh", "-c", "echo $HOME; ls") == ["sh", "-c", "echo $HOME; ls"]
