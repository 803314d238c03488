"""`marq batch`."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import Progress

from marq.cli import http, options
from marq.cli.answers import BatchLine, BatchTotal
from marq.cli.output import complain, err, fail, print_json
from marq.queue.job_records import FINISHED

PIECE = 65536  # bytes of a request's body
LOOK_S = 0.5  # between two looks at a group


def batch(
    model: options.ModelName,
    file: options.JsonLines,
    wait: Annotated[bool, typer.Option("--wait", help="Return when all its jobs have finished.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer of each line, the group and its counts as JSON.")
    ] = False,
    version: options.ModelVersion = None,
    priority: options.Priority = None,
    tags: options.Tags = None,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Queue one job for each line of a file of JSON lines and print the job ids.

    Refused lines and the id of the group go to stderr. Exit code 1 if a line was refused, or with --wait if a
    job did not succeed.
    """
    server = http.connect(url, token, state_dir)
    asked = {"X-Marq-Priority": priority, "X-Marq-Tags": ",".join(tags or ())}
    headers = {name: value for name, value in asked.items() if value}
    headers["Content-Type"] = "application/x-ndjson"
    path = f"{http.path('jobs', model, version)}:batch"
    with ExitStack() as stack:
        stream = sys.stdin.buffer if file == http.STDIN else stack.enter_context(file.open("rb"))
        pieces = _pieces(stream, stack.enter_context(_progress()), file)
        with server.send("POST", path, content=pieces, headers=headers) as response:
            answers, total = _read_answers(response.iter_lines(), show=not as_json)
    typer.echo(f"Group {total['group']}: {total['queued']} queued, {total['refused']} refused.", err=True)
    counts = _wait(server, total["group"]) if wait and total["queued"] and "error" not in total else {}
    if as_json:
        print_json({**total, "lines": answers, **({"counts": counts} if counts else {})})
    if "error" in total:
        fail(total["error"]["message"])
    if total["refused"] or sum(counts.values()) != counts.get("succeeded", 0):
        raise typer.Exit(1)


def _progress() -> Progress:
    """A progress bar where stderr is a terminal."""
    console = err()
    return Progress(console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False)


def _pieces(stream: BinaryIO, progress: Progress, file: Path) -> Iterator[bytes]:
    task = progress.add_task("Submitting", total=None if file == http.STDIN else file.stat().st_size)
    while piece := stream.read(PIECE):
        yield piece
        progress.advance(task, len(piece))


def _read_answers(lines: Iterable[str], show: bool) -> tuple[list[BatchLine], BatchTotal]:
    """The answers of the lines, and the totals. `show`: prints the ids and the refusals as they come."""
    answers: list[BatchLine] = []
    for line in lines:
        answer = json.loads(line)
        if "group" in answer:
            return answers, answer
        if not show:
            answers.append(answer)
        elif "job_id" in answer:
            typer.echo(answer["job_id"])
        else:
            complain(f"line {answer['line']}: {answer['error']['message']}")
    raise http.RequestFailed("The answer ended before its last line; some lines may not have been queued.")


def _wait(server: http.Api, group: str) -> dict[str, int]:
    """Waits until all jobs of the group have finished; how many are in each state."""
    with _progress() as progress:
        task = progress.add_task("Waiting")
        while True:
            found = server.ask("GET", http.path("jobs", "groups", group), "counts")
            counts: dict[str, int] = found["counts"]
            jobs = found["jobs"]
            progress.update(task, completed=sum(counts[state] for state in FINISHED), total=jobs)
            if found["finished"]:
                break
            time.sleep(LOOK_S)
    shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    typer.echo(f"Finished: {shown}.", err=True)
    return counts
