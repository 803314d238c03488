"""Terminals in clean copies of the sources, for the blocks of the documents."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import OpenTerminal, Terminal, first_screen
from sources import copy_sources

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
        terminal.stop_the_server(COMMANDS)
        terminal.close()


@pytest.fixture(scope="module")
def serving_digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """The terminal of README.md's first screen: its model is trained and served, and has answered."""
    folder = tmp_path_factory.mktemp("digits") / "marq"
    folder.mkdir()
    terminal = Terminal(copy_sources(folder), COMMANDS)
    try:
        for block in first_screen()[:2]:
            terminal.run(block)
        yield terminal
    finally:
        terminal.stop_the_server(COMMANDS)
        terminal.close()


@pytest.fixture
def beside_digits(serving_digits: Terminal) -> Iterator[Terminal]:
    """A new terminal beside that server, which all tests of a module share."""
    terminal = serving_digits.beside()
    yield terminal
    terminal.close()
