"""`marq doctor`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from marq.cli import options
from marq.cli.commands.server import config
from marq.cli.output import out, print_json

MARKS = {"ok": ("ok", "green"), "warning": ("!!", "yellow"), "wrong": ("xx", "red")}


def doctor(
    model_store: Annotated[
        Path | None,
        typer.Option(
            "--model-store", metavar="DIR", resolve_path=True, help="Directory of the model archives."
        ),
    ] = None,
    ts_config: Annotated[
        Path | None,
        typer.Option("--ts-config", metavar="FILE", help="As for marq start."),
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option("--redis-url", metavar="URL", help="As for marq start.")
    ] = None,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """Check Redis, ports, disk, torch, devices, model store and packages; print a remedy for each problem.

    The server that runs here is checked with its own settings, unless options are given. Exit code 1 if
    something is wrong.
    """
    from marq.host.doctor import examine
    from marq.host.findings import WRONG
    from marq.settings import loading, properties

    given = {"model_store": model_store, "redis_url": redis_url, "state_dir": state_dir}
    server = None if model_store or ts_config or redis_url else config.find_server(state_dir)
    resolved = server.resolved() if server else None
    resolved = resolved or loading.resolve(properties.discover(ts_config), given)
    findings = []
    for finding in examine(resolved):
        findings.append(finding)
        if not as_json:
            mark, style = MARKS[finding.state]
            line = Text.assemble((f"{mark}  ", style), (f"{finding.name}: ", "bold"), finding.text)
            out().print(line, soft_wrap=True)
            if finding.advice:
                out().print(Text(f"    {finding.advice}"), soft_wrap=True)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.state == WRONG for finding in findings):
        raise typer.Exit(1)
