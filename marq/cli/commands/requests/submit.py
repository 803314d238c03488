"""`marq submit`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from marq.cli import http, options
from marq.cli.commands.requests.jobs import print_result, wait_for
from marq.cli.commands.requests.progress import show_progress
from marq.cli.output import complain, err, print_json


def submit(
    model: options.ModelName,
    files: options.Bodies,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait, and print the results instead of the job ids.")
    ] = False,
    shows_progress: Annotated[
        bool, typer.Option("--progress", help="With --wait: show the progress that handlers report.")
    ] = False,
    version: options.ModelVersion = None,
    content_type: options.ContentType = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of files and job ids; not with --wait.")
    ] = False,
    priority: options.Priority = None,
    tags: options.Tags = None,
    retries: Annotated[
        int | None, typer.Option("--retries", metavar="N", help="Retries after the handler has failed.")
    ] = None,
    not_before: Annotated[
        str | None,
        typer.Option(
            "--not-before", metavar="TIME", help="Earliest start: 2026-11-27T20:15:00Z or +SECONDS."
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option("--webhook", metavar="URL", help="Gets a message when a job has ended."),
    ] = None,
    webhook_events: Annotated[
        str | None,
        typer.Option("--webhook-events", metavar="STATES", help="For these alone, e.g. failed,expired."),
    ] = None,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Queue one job for each file and print the job ids.

    With --wait the results go to stdout in the order of the files, the ids to stderr.
    """
    if wait and as_json:
        raise typer.BadParameter("--wait and --json exclude each other")
    if shows_progress and not wait:
        raise typer.BadParameter("--progress needs --wait")
    server, path = http.connect(url, token, state_dir), http.path("jobs", model, version)
    asked = {
        "X-Marq-Priority": priority, "X-Marq-Tags": ",".join(tags or ()), "X-Marq-Retries": retries,
        "X-Marq-Not-Before": not_before, "X-Marq-Webhook": webhook, "X-Marq-Webhook-Events": webhook_events,
    }  # fmt: skip
    headers = {name: str(value) for name, value in asked.items() if value not in (None, "")}
    ids: list[str] = []
    try:
        with _progress("Submitting", len(files)) as advance:
            for file in files:
                body = http.upload(file, content_type, headers)
                ids.append(server.ask("POST", path, "job_id", **body)["job_id"])
                advance()
    finally:
        _print_ids(files, ids, as_json, to_stderr=wait)
    if wait:
        if shows_progress:
            show_progress(server, ids)
        _print_results(server, ids)


def _print_ids(files: list[Path], ids: list[str], as_json: bool, to_stderr: bool) -> None:
    """Prints the job ids, also after a failure."""
    if as_json:
        pairs = zip(files, ids, strict=False)
        print_json([{"file": str(file), "job_id": job_id} for file, job_id in pairs])
        return
    for job_id in ids:
        typer.echo(job_id, err=to_stderr)


def _print_results(server: http.Api, ids: list[str]) -> None:
    """Prints all results in order. A failed job is reported on stderr; the other results are printed."""
    with _progress("Waiting", len(ids)) as advance:
        for job_id in ids:
            wait_for(server, job_id, float("inf"))
            advance()
    failed = 0
    for job_id in ids:
        try:
            print_result(server, job_id, end_line=len(ids) > 1)
        except http.RequestFailed as error:
            complain(f"{job_id}: {error}")
            failed += 1
    if failed:
        raise typer.Exit(1)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal for several items; yields the function that counts one as done."""
    console = err()
    with Progress(
        console=console,
        transient=True,
        disable=total < 2 or not console.is_terminal,
        redirect_stdout=False,  # stdout may be a pipe while the bar is on a terminal
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
