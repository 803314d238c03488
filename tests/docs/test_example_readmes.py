"""The blocks of the READMEs of examples. A file of its own runs beside the other documents."""

import shutil
from pathlib import Path

import pytest
from documents import OpenTerminal, runnable
from sources import PROJECT

EXAMPLES = sorted((PROJECT / "examples").glob("*/README.md"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("document", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_works_as_its_readme_says(document: Path, open_terminal: OpenTerminal) -> None:
    if document.parent.name == "producers" and not shutil.which("redis-cli"):
        pytest.skip("redis-cli is not installed")
    terminal = open_terminal(PIP_NO_INDEX="1")  # the packages are there already
    for script in terminal.folder.glob(f"examples/{document.parent.name}/*.py"):
        terminal.adapt(script)
    for block in runnable(document):
        terminal.run(block)
