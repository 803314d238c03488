"""What became of the requests of one case, and the table of all cases."""

from collections.abc import Sequence
from dataclasses import dataclass, field

MOST_PROBLEMS = 10  # that are told of one case
COLUMNS = ("accepted", "right", "designed", "refused", "lost", "duplicated")
TITLES = ("accepted", "answered right", "failed as designed", "refused", "lost", "duplicated")


@dataclass
class Ledger:
    """Counts of one case. What is refused with a hint when to come again is not accepted by that.

    A job is submitted again until it is accepted: it may be in both columns, but in each only once.
    """

    case: str = ""
    accepted: int = 0
    right: int = 0
    designed: int = 0  # failed as the case says they may
    refused: int = 0  # requests, however often
    lost: int = 0  # no answer, a wrong one, or one that the case does not allow
    duplicated: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)  # told below the table
    problems: list[str] = field(default_factory=list)
    first_refusal: str = ""

    def refuse(self, what: str) -> None:
        self.refused += 1
        self.first_refusal = self.first_refusal or what

    def check_refusals(self, most: int = 0, broken: int = 0) -> None:
        """Complains if more requests than `most` were refused, or broken in a way that the case allows."""
        if self.refused + broken > most:
            told = f"the first one: {self.first_refusal}" if self.refused else "without a refusal"
            self.complain(f"{self.refused + broken} were refused or broken, {most} may be; {told}")

    def lose(self, what: str) -> None:
        self.lost += 1
        self.complain(f"lost: {what}")

    def complain(self, problem: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def add(self, other: "Ledger") -> None:
        """Counts, notes and problems of another part of the same case."""
        for name in (*COLUMNS, "seconds", "notes", "details"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first_refusal = self.first_refusal or other.first_refusal
        for problem in other.problems:
            self.complain(problem)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.problems) and (
            0 < self.accepted == self.right + self.designed
        )


def table(ledgers: Sequence[Ledger]) -> str:
    """One row for each case, in Markdown; below it whatever went wrong."""
    lines = [f"| case | {' | '.join(TITLES)} | s | |", "| --- |" + " ---: |" * (len(COLUMNS) + 1) + " --- |"]
    for ledger in ledgers:
        counts = " | ".join(f"{getattr(ledger, name):,}" for name in COLUMNS)
        lines.append(f"| {ledger.case} | {counts} | {ledger.seconds:.0f} | {'; '.join(ledger.notes)} |")
    lines += [f"{ledger.case}: {problem}" for ledger in ledgers for problem in ledger.problems]
    lines += [f"{ledger.case}: {detail}" for ledger in ledgers for detail in ledger.details]
    return "\n".join(lines)
