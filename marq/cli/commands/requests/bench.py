"""`marq bench`."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from marq.cli import http, options
from marq.cli.latencies import Measured, picture
from marq.cli.output import complain, err, fail, note_idle, out, print_json

PICTURE_WIDTH = 90  # columns
USUAL_REQUESTS = 1000


def bench(
    model: options.ModelName,
    file: options.Body,
    connections: Annotated[
        int, typer.Option("--connections", "-c", metavar="N", min=1, help="Requests at the same time.")
    ] = 16,
    requests: Annotated[
        int | None,
        typer.Option("--requests", "-n", metavar="N", min=1, help="How many requests. Default: 1000."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", "-d", metavar="S", min=0.1, help="How many seconds, instead of -n."),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture to this file, too.")
    ] = None,
    as_json: options.AsJson = False,
    version: options.ModelVersion = None,
    content_type: options.ContentType = None,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Load a model of a running server; print throughput, latencies and their histogram.

    Sends the file again and again. Exit code 1 if a request fails.
    """
    if duration and requests:
        note_idle("--requests", "--duration says how long it takes")
    path = http.path("predictions", model, version)
    upload = http.upload(file, content_type)
    # A client for each connection: one for all would keep no more than 20 of them open
    servers = [http.connect(url, token, state_dir) for _ in range(connections)]
    measured = _run(servers, lambda server: _send(server, path, upload), requests or USUAL_REQUESTS, duration)
    if not measured.latencies:
        fail(next(iter(measured.failures)))
    if svg:
        with svg.open("w") as target, Path("/dev/null").open("w") as nowhere:
            console = Console(record=True, width=PICTURE_WIDTH, file=nowhere)
            console.print(picture(measured))
            target.write(console.export_svg(title=f"marq bench {model} -c {connections}"))
    if as_json:
        print_json(measured.summary())
    else:
        out().print(picture(measured))
    for message, count in measured.failures.items():
        complain(f"{count} requests failed: {message}")
    if measured.failures:
        raise typer.Exit(1)


def _send(server: http.Api, path: str, upload: http.Options) -> None:
    with server.send("POST", path, **upload) as response:
        for _ in response.iter_bytes():
            pass


def _run(
    servers: list[http.Api], send: Callable[[http.Api], None], requests: int, duration: float | None
) -> Measured:
    """Sends over all connections until all requests are sent, or the time is over; at least one request."""
    measured, lock, started = Measured(), threading.Lock(), time.perf_counter()
    taken = 0

    def is_more() -> bool:
        nonlocal taken
        with lock:
            taken += 1
            return taken == 1 or (time.perf_counter() - started < duration if duration else taken <= requests)

    def work(server: http.Api) -> None:
        while is_more():
            before = time.perf_counter()
            try:
                send(server)
            except http.RequestFailed as error:
                with lock:
                    measured.failures[str(error)] = measured.failures.get(str(error), 0) + 1
            else:
                measured.latencies.append(time.perf_counter() - before)

    threads = [threading.Thread(target=work, args=(server,), daemon=True) for server in servers]
    with Progress(console=err(), transient=True) as progress:
        task = progress.add_task("Loading", total=duration or requests)
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                done = len(measured.latencies) + sum(measured.failures.values())
                progress.update(task, completed=time.perf_counter() - started if duration else done)
    measured.duration_s = time.perf_counter() - started
    return measured
