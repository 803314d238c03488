"""README.md's blocks, from the installation on. A file of its own runs beside the other documents."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from documents import README, OpenTerminal, first_screen, runnable
from sources import PYTHON_FREE

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_the_first_prediction_works_as_shown(open_terminal: OpenTerminal) -> None:
    terminal = open_terminal()
    starting, asking, *_ = first_screen()
    terminal.run(starting)
    terminal.run(asking)


def test_readme_works_from_the_installation_on(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    """In a new environment; without access to PyTorch's own index, pip's sources have to have it."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True, env=PYTHON_FREE)
    terminal = open_terminal(tmp_path / "env/bin")
    elsewhere = {} if is_known("download.pytorch.org") else {f" --index-url {TORCH_INDEX}": ""}
    for block in runnable(README):
        terminal.run(block, elsewhere)


def is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
