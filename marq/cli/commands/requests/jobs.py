"""`marq job`, `marq jobs`, `marq cancel` and `marq retry`."""

import time
from typing import Annotated

import typer
from rich.table import Table

from marq.cli import http, options
from marq.cli.answers import Job
from marq.cli.output import fail, out, print_body, print_json
from marq.queue.job_records import FINISHED

LONGEST_WAIT_S = 60.0  # maximum wait of one request


def job(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="As printed by `marq submit`.")],
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="Maximum wait for the job to finish.")
    ] = 0.0,
    result: Annotated[bool, typer.Option("--result", help="Print the result itself.")] = False,
    as_json: options.AsJson = False,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Show a job's state and times, or its result.

    Exit code 1 if it has not finished after --wait, or has no result for --result.
    """
    if result and as_json:
        raise typer.BadParameter("--result and --json exclude each other")
    server = http.connect(url, token, state_dir)
    record = wait_for(server, job_id, wait)
    if result:
        print_result(server, job_id)
        return
    if as_json:
        print_json(record)
    else:
        out().print(_table(record))
    if wait and record["state"] not in FINISHED:
        fail(f"Job {job_id} is still {record['state']} after {wait:g} s.")


def jobs(
    model: options.OptionalModelName = None,
    version: options.ModelVersion = None,
    state: options.JobState = None,
    tag: options.Tag = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="How many jobs at most.")
    ] = 20,
    as_json: options.AsJson = False,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """List jobs, the newest first, and how many are in each state."""
    query = _query(model=model, version=version, state=state, tag=tag, limit=limit)
    page = http.connect(url, token, state_dir).ask("GET", "/jobs", "jobs", params=query)
    if as_json:
        print_json(page)
        return
    table = Table(box=None, header_style="bold")
    for column in ("job", "state", "queued", "attempts", "status", "tags"):
        table.add_column(column.upper())
    for each in page["jobs"]:
        cells = each["job_id"], each["state"], _shown("queued", each.get("queued", "")), each["attempts"]
        table.add_row(*map(str, cells), str(each.get("status", "")), ",".join(each.get("tags", ())))
    out().print(table)
    counts = ", ".join(f"{count} {name}" for name, count in page["counts"].items() if count)
    out().print(counts or "No jobs.")


def cancel(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As printed by `marq submit`.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="All unfinished jobs of this model instead."),
    ] = None,
    version: options.ModelVersion = None,
    state: options.JobState = None,
    tag: options.Tag = None,
    as_json: options.AsJson = False,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Cancel jobs by their ids, or many by model, version, state and tag."""
    if bool(ids) == bool(model):
        raise typer.BadParameter("give either ids or --model")
    if ids and (version or state or tag):
        raise typer.BadParameter("--version, --state and --tag choose among the jobs of --model")
    server = http.connect(url, token, state_dir)
    cancelled, query = 0, _query(model=model, version=version, state=state, tag=tag)
    more = bool(model)
    try:
        for job_id in ids or ():
            server.ask("DELETE", http.path("jobs", job_id), "state")
            cancelled += 1
        while more:
            done = server.ask("DELETE", "/jobs", "cancelled", params=query)
            cancelled += done["cancelled"]
            more = done["remaining"] and done["cancelled"]
    finally:  # also after a failure: the jobs that were cancelled before it
        if as_json:
            print_json({"cancelled": cancelled})
        else:
            typer.echo(f"Cancelled {cancelled} job{'' if cancelled == 1 else 's'}.")


def retry(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As printed by `marq submit`.")],
    as_json: options.AsJson = False,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Queue failed or expired jobs again, with their ids."""
    server = http.connect(url, token, state_dir)
    queued: list[str] = []
    try:
        for job_id in ids:
            server.ask("POST", f"{http.path('jobs', job_id)}/retry", "job_id")
            queued.append(job_id)
    finally:  # also after a failure: the jobs that were queued before it
        if as_json:
            print_json({"queued": queued})
        for job_id in [] if as_json else queued:
            typer.echo(f"Queued {job_id} again.")


def _query(**given: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in given.items() if value is not None}


def wait_for(server: http.Api, job_id: str, wait_s: float) -> Job:
    """The job's state when it has finished, or after the time-out."""
    deadline = time.monotonic() + wait_s
    while True:
        left = max(0.0, deadline - time.monotonic())
        query = {"wait": min(left, LONGEST_WAIT_S)}
        record: Job = server.ask("GET", http.path("jobs", job_id), "state", params=query)
        if record["state"] in FINISHED or left <= LONGEST_WAIT_S:
            return record


def print_result(server: http.Api, job_id: str, end_line: bool = False) -> None:
    with server.send("GET", http.path("jobs", job_id, "result")) as response:
        print_body(response.iter_bytes(), end_line)


def _table(record: Job) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in record.items():
        table.add_row(name.replace("_", " "), _shown(name, value))
    return table


def _shown(name: str, value: object) -> str:
    if name not in ("queued", "started", "finished") or not isinstance(value, int | float):
        return str(value)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value)) + f"{value % 1:.3f}"[1:]
