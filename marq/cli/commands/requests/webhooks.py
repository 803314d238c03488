"""`marq webhooks`: messages of webhooks that were not delivered, over the management API."""

import time
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from marq.cli import http, options
from marq.cli.answers import Webhook
from marq.cli.output import complain, note, out, print_json

WEBHOOKS = "webhooks"  # the path of the API
USUAL, MOST = 100, 1000

app = typer.Typer(no_args_is_help=True)

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="As printed by `marq webhooks list`.")
]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="As printed by `marq webhooks list`.")]


@app.command("list", epilog="Example: marq webhooks list --failed --json | jq -r '.webhooks[].id'")
def list_messages(
    model: options.OptionalModelName = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that are not sent again.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Only those that wait for a try.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=MOST, help="How many at most.")
    ] = USUAL,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """List messages that were not delivered, and count them."""
    if failed and pending:
        raise typer.BadParameter("--failed and --pending exclude each other")
    asked = {"model": model, "delivery": "failed" if failed else "pending" if pending else None}
    params: dict[str, str | int] = {name: value for name, value in asked.items() if value}
    server = http.connect(url, token, state_dir, management=True)
    page = server.ask("GET", http.path(WEBHOOKS), WEBHOOKS, params={**params, "limit": limit})
    if as_json:
        print_json(page)
        return
    if page["webhooks"]:
        out().print(_table(page["webhooks"]))
    counts = page["counts"]
    typer.echo(f"{counts['pending']} pending, {counts['failed']} failed")


@app.command("show", epilog="Example: marq webhooks show msg_3f9c0a12b4 --json")
def show(
    message_id: MessageId,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Show a message, its body and why it was not delivered."""
    server = http.connect(url, token, state_dir, management=True)
    message = server.ask("GET", http.path(WEBHOOKS, message_id), "url")
    if as_json:
        print_json(message)
        return
    facts = Table.grid(padding=(0, 2))
    for name, value in message.items():
        if value is not None:
            shown = _time(value) if name in ("next_try", "failed") else str(value)
            facts.add_row(name.replace("_", " "), escape(shown))
    out().print(facts)


@app.command("replay", epilog="Example: marq webhooks replay --failed")
def replay(
    ids: Ids = None,
    failed: Annotated[bool, typer.Option("--failed", help=f"All that have failed; {MOST} at most.")] = False,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Send messages now, with their ids, and print these.

    Exit code 1 if one of them does not exist.
    """
    if bool(ids) == failed:
        raise typer.BadParameter("give the ids of messages, or --failed")
    server = http.connect(url, token, state_dir, management=True)
    done: list[str] = []
    wanted = ids or _failed(server)
    if not wanted:
        note("no webhook has failed, so none is sent again")
    for each in wanted:
        try:
            done.append(server.ask("POST", http.path(WEBHOOKS, each, "replay"), "replayed")["replayed"])
        except http.RequestFailed as error:
            complain(f"{each}: {error}")
    if as_json:
        print_json({"replayed": done})
    else:
        for each in done:
            typer.echo(each)
    if len(done) < len(wanted):
        raise typer.Exit(1)


def _failed(server: http.Api) -> list[str]:
    params: dict[str, str | int] = {"delivery": "failed", "limit": MOST}
    page = server.ask("GET", http.path(WEBHOOKS), WEBHOOKS, params=params)
    return [message["id"] for message in page["webhooks"]]


def _table(messages: list[Webhook]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Id", "Delivery", "Tries", "Next try", "Job or group"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Error")
    for each in messages:
        next_try = _time(each["next_try"]) if "next_try" in each else ""
        cells = (
            each["id"],
            each["delivery"],
            str(each["tries"]),
            next_try,
            each["job_id"] or each["group"] or "",
            each["error"] or "",
        )
        table.add_row(*map(escape, cells))
    return table


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
