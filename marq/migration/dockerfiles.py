"""Dockerfiles: their instructions that have to do with TorchServe."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from marq.migration import words
from marq.migration.findings import Finding, Judgement, Verdict

_SOURCE = re.compile(r"github\.com/pytorch/serve\b|ts_scripts/install")
_FROM_SOURCE = "builds TorchServe from its source: install marq instead."
_BUILT_BY = frozenset(("install", "add"))  # words before the names of packages


@dataclass(frozen=True)
class _Instruction:
    """`lines`: the texts of the lines that it goes over, by their numbers, without the instruction's name."""

    name: str
    lines: list[tuple[int, str]]

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.lines).strip()


def look(file: Path) -> Iterator[Finding]:
    """A finding for each line that has to do with TorchServe."""
    for instruction in _instructions(file.read_text(errors="replace")):
        for line, judgement in _judge(instruction):
            yield Finding(file, line, judgement.verdict, judgement.text)


def _judge(instruction: _Instruction) -> Iterator[words.Placed]:
    first = instruction.lines[0][0]
    match instruction.name:
        case "FROM" | "ARG":
            if judgement := words.of_image(instruction.text):
                yield first, judgement
        case "ENV":
            for line, text in instruction.lines:
                yield from ((line, found) for name in _variables(text) if (found := words.of_variable(name)))
        case "CMD" | "ENTRYPOINT":
            yield from words.of_container_command(_words(instruction))
        case "RUN":
            yield from _of_run(instruction)


def _of_run(instruction: _Instruction) -> Iterator[words.Placed]:
    """Packages after `install`, TorchServe's source, and commands of TorchServe."""
    installs = False
    for line, text in instruction.lines:
        if _SOURCE.search(text):
            yield line, Judgement(Verdict.CHANGE, _FROM_SOURCE)
        for word in words.shell_words(text):
            if word in _BUILT_BY:
                installs = True
            elif set(word) <= set(";&|"):
                installs = False
            elif installs and (judgement := words.of_package(word)):
                yield line, judgement
            elif not installs:
                yield from words.of_command([(line, word)])


def _variables(text: str) -> list[str]:
    """The names that one line of ENV sets: `NAME=value ...`, or `NAME value`."""
    return re.findall(r"(?:^|\s)(\w+)=", text) or text.split()[:1]


def _words(instruction: _Instruction) -> list[tuple[int, str]]:
    first = instruction.lines[0][0]
    try:
        parsed = json.loads(instruction.text)
    except (ValueError, RecursionError):  # Docker gives it to a shell
        return [(first, "sh"), (first, "-c"), *instruction.lines]
    found, line = [], first
    for word in parsed if isinstance(parsed, list) else []:
        line = next((n for n, text in instruction.lines if n >= line and json.dumps(word) in text), line)
        found.append((line, str(word)))
    return found


def _instructions(text: str) -> Iterator[_Instruction]:
    lines: list[tuple[int, str]] = []
    name = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue  # also between the lines of an instruction
        if not lines:
            name, _, stripped = stripped.partition(" ")
        lines.append((number, stripped.removesuffix("\\").strip()))
        if not stripped.endswith("\\"):
            yield _Instruction(name.upper(), lines)
            lines = []
    if lines:
        yield _Instruction(name.upper(), lines)
