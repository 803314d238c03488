"""`marq migrate`."""

from pathlib import Path
from typing import Annotated

import typer

from marq.cli import options
from marq.cli.output import fail, print_json


def migrate(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A folder made for TorchServe."),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Say line by line what of a TorchServe folder runs as it is, is ignored, or has to change.

    Reads config.properties, archives, workflow archives, log4j files, Dockerfiles, compose files and
    Kubernetes manifests; changes nothing. Exit code 1 if something has to change, or nothing was found.
    """
    from marq.migration import folder
    from marq.migration.findings import Verdict

    found = folder.look(directory)
    counts = {verdict.value: sum(one.verdict == verdict for one in found) for verdict in Verdict}
    if as_json:
        rows = [
            {"file": str(one.file), "line": one.line, "verdict": one.verdict.value, "text": one.text}
            for one in found
        ]
        print_json({"findings": rows, "summary": counts})
    elif found:
        for one in found:
            typer.echo(str(one))
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if not found:
        fail(f"{directory} has no files of TorchServe.")
    if counts[Verdict.CHANGE]:
        raise typer.Exit(1)
