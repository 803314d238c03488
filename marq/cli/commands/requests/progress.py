"""The progress of jobs on the terminal."""

import json
from collections.abc import Iterable, Iterator

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from marq.cli import http
from marq.cli.answers import JobEvent
from marq.cli.output import err
from marq.queue.job_records import FINISHED, SUCCEEDED

LONGEST_ID = 24  # characters, on the screen


def show_progress(server: http.Api, ids: list[str]) -> None:
    """A bar for each job, one after the other, until the last has ended. Raises RequestFailed."""
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}% {task.fields[note]}", markup=False), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err(), redirect_stdout=False) as bars:
        for job_id in ids:
            task = bars.add_task(job_id[:LONGEST_ID], total=1.0, note="")
            _follow(server, job_id, bars, task)


def _follow(server: http.Api, job_id: str, bars: Progress, task: TaskID) -> None:
    last = ""
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        with server.send("GET", f"{http.path('jobs', job_id)}/events", headers=headers) as response:
            for event_id, kind, data in _events(response.iter_lines()):
                last = event_id
                if kind == "progress":
                    bars.update(task, completed=data["fraction"], note=data["message"])
                elif kind == "state":
                    bars.update(task, note=data["state"])
                    if data["state"] in FINISHED:
                        if data["state"] == SUCCEEDED:
                            bars.update(task, completed=1.0)
                        return
            if response.status_code != 200:
                return


def _events(lines: Iterable[str]) -> Iterator[tuple[str, str, JobEvent]]:
    """(id, event, data) of server-sent events."""
    found: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "data" in found:
            yield found["id"], found["event"], json.loads(found["data"])
            found = {}
