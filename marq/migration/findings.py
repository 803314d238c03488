"""The verdict on one line or file of a TorchServe folder."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Verdict(StrEnum):
    """RUNS: as it is; IGNORED: without harm or effect; CHANGE: marq does not start or answer so."""

    RUNS = "runs"
    IGNORED = "ignored"
    CHANGE = "change"


@dataclass(frozen=True)
class Judgement:
    """The judgement of a text, in any file."""

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Finding:
    """`line` is 0 where the verdict is on the whole file."""

    file: Path
    line: int
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.verdict}: {self.text}"
