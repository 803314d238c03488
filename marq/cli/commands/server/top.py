"""`marq top`."""

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from marq.cli import options
from marq.cli.commands.server.activity import Activity, views
from marq.cli.output import note_idle, out, print_json
from marq.cli.status_tables import STYLES

MOST_CALLERS = 5  # of a version
USUAL_INTERVAL_S = 1.0


def top(
    once: Annotated[
        bool, typer.Option("--once", help="Print one view of everything since the start, and end.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option("--interval", metavar="S", min=0.1, help="Seconds between two views. Default: 1."),
    ] = None,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """Watch queues, replicas, batches and latencies of all models.

    Rates, batch sizes and latencies are measured between two views. Ctrl-C ends it.
    """
    from marq.cli.running import redis_url

    console = out()
    if interval is not None and (once or as_json or not console.is_terminal):
        note_idle("--interval", "there is one view")
    shown = views(redis_url(state_dir), interval or USUAL_INTERVAL_S)
    if as_json:
        print_json([asdict(line) for line in next(shown)])
    elif once or not console.is_terminal:
        console.print(_table(next(shown)))
    else:
        with Live(console=console, auto_refresh=False) as live, suppress(KeyboardInterrupt):
            for lines in shown:
                live.update(_table(lines), refresh=True)


def _table(lines: list[Activity]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Model", "Version", "State"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    for heading in ("Replicas", "Waiting", "Oldest", "Requests/s", "Mean batch", "p50", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            escape(line.name),
            escape(line.version),
            f"[{STYLES[line.state]}]{line.state}[/]",
            f"{line.replicas_ready}/{line.replicas_wanted}",
            str(line.waiting),
            _duration(line.oldest_s),
            _number(line.requests_per_s),
            _number(line.mean_batch_size),
            _duration(line.latency_p50_s),
            _duration(line.latency_p99_s),
        )
    held = [f"{line.name} {line.version}: {_callers(line)}" for line in lines if line.held]
    if held:
        table.caption, table.caption_justify = escape("\n".join(held)), "left"
    return table


def _callers(line: Activity) -> str:
    """The callers with the most held jobs."""
    first = sorted(line.held.items(), key=lambda each: -each[1])
    named = [
        f"{caller or '(none)'} {number:,}"
        + (f" (weight {line.weights[caller]:g})" if caller in line.weights else "")
        for caller, number in first[:MOST_CALLERS]
    ]
    more = [f"{len(first) - MOST_CALLERS} others"] if len(first) > MOST_CALLERS else []
    quota = f"; quota of each caller: {line.quota:,} unfinished jobs" if line.quota else ""
    return f"jobs that wait for their caller's turn: {', '.join([*named, *more])}{quota}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
