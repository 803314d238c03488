"""Terminals in clean copies of the sources, for the blocks of the documents."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import OpenTerminal, Terminal, first_screen
from sources import PYTHON_FREE, copy_sources

COMMANDS = Path(sys.executable).parent


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator[OpenTerminal]:
    """Opens a terminal in a clean copy of the sources."""
    opened: list[Terminal] = []

    def open_one(commands: Path = COMMANDS, **variables: str) -> Terminal:
        folder = tmp_path / "marq"
        folder.mkdir()
        opened.append(Terminal(copy_sources(folder), commands, **variables))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close(COMMANDS)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive and the image of README.md's first screen, made once."""
    folder = copy_sources(tmp_path_factory.mktemp("packed"))
    *packing, _ = first_screen()[0].text.splitlines()
    environment = {**PYTHON_FREE, "PATH": f"{COMMANDS}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    subprocess.run(["bash", "-ec", "\n".join(packing)], cwd=folder, env=environment, check=True)
    return folder
