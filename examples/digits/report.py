"""What the demo prints: steps, progress, the table, the verdict."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from load import Answer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PLAIN_WIDTH = 100  # columns where the output is not a terminal


@dataclass(frozen=True)
class Outcome:
    """One way of sending images, and what came of it."""

    way: str
    answers: list[Answer]
    accuracy: float
    seconds: float
    batch: float | None = None  # requests per batch, on average

    @property
    def rate(self) -> float:
        return len(self.answers) / self.seconds

    def percentile_ms(self, share: float) -> float:
        times = sorted(answer.seconds for answer in self.answers)
        return 1000 * times[min(len(times) - 1, int(share * len(times)))]

    def cells(self) -> list[str]:
        batch = "-" if self.batch is None else f"{self.batch:.1f}"
        times = (f"{self.percentile_ms(share):,.1f}" for share in (0.50, 0.99))
        return [
            self.way, f"{len(self.answers):,}", f"{self.accuracy:.2%}", f"{self.rate:,.0f}", *times, batch,
        ]  # fmt: skip


class Report:
    """Everything for the user's eyes. On a terminal bars move; elsewhere each step is one line."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, width=PLAIN_WIDTH)
        self.failed: list[str] = []

    def title(self, text: str, explanation: str) -> None:
        self._console.print(f"[bold]{text}[/]\n[dim]{explanation}[/]\n")

    def say(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False)

    def check(self, holds: bool, text: str, otherwise: str = "") -> None:
        """One thing that must hold; what does not is remembered for the verdict."""
        mark = "[green]✓[/]" if holds else "[bold red]✗[/]"
        self._console.print(f"{mark} ", end="")
        self._console.print(text if holds else otherwise or text, markup=False)
        if not holds:
            self.failed.append(otherwise or text)

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Says what happens now, and how long it took."""
        began = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(text):
                yield
        else:
            yield
        self.say(f"{text} ({time.monotonic() - began:.1f} s)")

    @contextlib.contextmanager
    def progress(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar; call what it gives once for each answer."""
        if not self._console.is_terminal:
            with self.step(f"{text}: {total:,} requests"):
                yield lambda: None
            return
        columns = (
            TextColumn("  {task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(text, total=total)
            yield lambda: progress.advance(task)

    def table(self, outcomes: list[Outcome], note: str) -> None:
        table = Table(caption=note, caption_justify="left")
        table.add_column("way", no_wrap=True)
        for name in ("requests", "accuracy", "req/s", "p50 ms", "p99 ms", "mean batch"):
            table.add_column(name, justify="right")
        for outcome in outcomes:
            table.add_row(*outcome.cells())
        self._console.print()
        self._console.print(table)
        self._console.print()

    def verdict(self) -> int:
        """The exit code: 0 if all that was checked holds."""
        if not self.failed:
            self._console.print("\n[bold green]All of it held.[/]")
            return 0
        self._console.print(f"\n[bold red]{len(self.failed)} did not hold:[/]")
        for text in self.failed:
            self.say(f"- {text}")
        return 1
