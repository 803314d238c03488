"""`marq workflow`: the workflows of a server."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from marq.cli import http, options
from marq.cli.answers import Workflow
from marq.cli.output import out, print_body, print_json

app = typer.Typer(no_args_is_help=True)
WorkflowName = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Name of a registered workflow.")]


class Drawing(StrEnum):
    """The forms of a drawing."""

    MERMAID = "mermaid"
    SVG = "svg"


@app.command(epilog="Example: marq workflow register digits_vote.war")
def register(
    archive: Annotated[
        str, typer.Argument(metavar="ARCHIVE", help="File in the workflow store, or an allowed URL.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the workflow. Default: the archive's."),
    ] = None,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Register a workflow and start the replicas of all its nodes."""
    given = {"url": archive, **({"workflow_name": name} if name else {})}
    server = http.connect(url, token, state_dir, management=True)
    _print_status(server.ask("POST", http.path("workflows"), "status", params=given), as_json)


@app.command("list", epilog="Example: marq workflow list --json")
def list_(
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """List the registered workflows."""
    server = http.connect(url, token, state_dir, management=True)
    found: list[Workflow] = []
    first: str | None = "0"
    while first is not None:
        page = server.ask(
            "GET", http.path("workflows"), "workflows", params={"limit": http.PAGE, "next_page_token": first}
        )
        found += page["workflows"]
        first = page.get("nextPageToken") if page["workflows"] else None
    if as_json:
        print_json(found)
        return
    if not found:
        typer.echo("No workflows are registered.")
        return
    table = Table("workflow", "archive")
    for each in found:
        table.add_row(escape(each["workflowName"]), escape(each["workflowUrl"]))
    out().print(table)


@app.command(epilog="Example: marq workflow describe digits_vote")
def describe(
    workflow: WorkflowName,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Show the settings and the graph of a workflow."""
    server = http.connect(url, token, state_dir, management=True)
    described = server.json("GET", http.path("workflows", workflow))
    if as_json:
        print_json(described)
        return
    table = Table(show_header=False)
    for name, value in described[0].items():
        table.add_row(name, escape(str(value)))
    out().print(table)


@app.command(epilog="Example: marq workflow run topic sentence.txt")
def run(
    workflow: WorkflowName,
    file: options.Body,
    content_type: options.ContentType = None,
    url: options.Url = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Send one request through a workflow and print the answer."""
    server = http.connect(url, token, state_dir)
    path = http.path("wfpredict", workflow)
    with server.send("POST", path, **http.upload(file, content_type)) as response:
        print_body(response.iter_bytes())


@app.command(epilog="Example: marq workflow delete digits_vote")
def delete(
    workflow: WorkflowName,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Unregister a workflow; waiting runs are answered with 503."""
    server = http.connect(url, token, state_dir, management=True)
    _print_status(server.ask("DELETE", http.path("workflows", workflow), "status"), as_json)


@app.command(epilog="Example: marq workflow draw digits_vote --format svg > digits_vote.svg")
def draw(
    workflow: WorkflowName,
    form: Annotated[
        Drawing, typer.Option("--format", help="Mermaid's text, or a picture.")
    ] = Drawing.MERMAID,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Print a drawing of a workflow, with the number of requests that wait for each node."""
    server = http.connect(url, token, state_dir, management=True)
    path = http.path("workflows", workflow)
    with server.send("GET", path, params={"format": form.value}) as response:
        print_body(response.iter_bytes())


def _print_status(answer: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer["status"])
