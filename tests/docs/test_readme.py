"""README.md's blocks, from the installation on. A file of its own runs beside the other documents."""

import socket
from pathlib import Path

import pytest
from documents import README, OpenTerminal, runnable
from environments import make_environment

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_readme_works_from_the_installation_on(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    """In a new environment that has PyTorch already; test_installation.py installs it, too.

    `make demo` installs marq into it, then pip does so as the reader types it. Without access to PyTorch's
    own index, pip's sources have to have it.
    """
    terminal = open_terminal(tmp_path / "marq/.venv/bin")
    make_environment(terminal.folder / ".venv")
    elsewhere = {} if is_known("download.pytorch.org") else {f" --index-url {TORCH_INDEX}": ""}
    for block in runnable(README):
        terminal.run(block, elsewhere)


def is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
