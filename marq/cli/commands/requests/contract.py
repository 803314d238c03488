"""`marq contract`."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from marq.cli.output import Commands, print_json
from marq.errors import BadRequest

if TYPE_CHECKING:
    from marq.contract.checking import Verdict

app = typer.Typer(cls=Commands, no_args_is_help=True)


@app.callback()
def contract() -> None:
    """Check what producers in other languages write to the queue (docs/queue-contract.md)."""


@app.command("check", epilog="Example: my-producer --print | marq contract check")
def check_entries(
    file: Annotated[
        typer.FileText,
        typer.Argument(help='Lines like {"lane": "…", "fields": {"body": "…"}}; - is stdin.', metavar="FILE"),
    ] = "-",  # type: ignore[assignment]
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of the verdicts.")] = False,
) -> None:
    """Judge entries as replicas do: which would become dead letters, and what has no effect.

    A value is a text, or {"base64": "…"} for bytes. Exits with 1 if an entry has a fault.
    """
    verdicts = list(_judged(file))
    if as_json:
        print_json(
            [{"line": number, "fault": each.fault, "warnings": each.warnings} for number, each in verdicts]
        )
    else:
        for number, verdict in verdicts:
            for line in _report(verdict):
                typer.echo(f"line {number}: {line}")
        faults = sum(not verdict.is_good for _, verdict in verdicts)
        typer.echo(f"{len(verdicts)} entries, {faults} with a fault.")
    if not all(verdict.is_good for _, verdict in verdicts):
        raise typer.Exit(1)


def _judged(given: Iterable[str]) -> "Iterator[tuple[int, Verdict]]":
    """The number of each line that is not blank, and its verdict."""
    from marq.contract import lines
    from marq.contract.checking import Verdict, check

    for number, line in enumerate(given, 1):
        if line.strip():
            try:
                entry = lines.parse(line)
            except BadRequest as error:
                yield number, Verdict(error.message, [])
            else:
                yield number, check(entry.lane, entry.fields)


def _report(verdict: "Verdict") -> Iterator[str]:
    if verdict.fault:
        yield f"fault: {verdict.fault}"
    for warning in verdict.warnings:
        yield f"warning: {warning}"
    if verdict.is_good and not verdict.warnings:
        yield "good"
