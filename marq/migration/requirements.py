"""requirements.txt files that install TorchServe."""

from collections.abc import Iterator
from pathlib import Path

from marq.migration import words
from marq.migration.findings import Finding


def look(file: Path) -> Iterator[Finding]:
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        name = line.partition("#")[0].partition("--")[0]
        if judgement := words.of_package(name):
            yield Finding(file, number, judgement.verdict, judgement.text)
