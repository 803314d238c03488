"""`marq dead`: requests that were given up, over the management API."""

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from marq.cli import http, options
from marq.cli.answers import Letter, LetterPage, ModelLetters
from marq.cli.output import complain, err, note, note_idle, out, print_body, print_json

DEAD = "dead-letters"  # the path of the API
PAGE = 1000
USUAL_LETTERS = 100
CHUNK = 50  # letters that are replayed with one request
LONGEST_INPUT = 2000  # characters that `show` prints

SHOWN_APART = ("log", "input", "fields")  # keys of a letter

dead = typer.Typer(no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="As printed by `marq dead list MODEL`.")]
LetterId = Annotated[str, typer.Argument(metavar="ID", help="As printed by `marq dead list MODEL`.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters of the model.")]


@dead.command("list", epilog="Example: marq dead list digits --json | jq -r '.[].id'")
def list_letters(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="List its letters. Default: count those of all models."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="The newest N letters of the model. Default: 100."),
    ] = None,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Count dead letters, or list those of a model, the newest first."""
    server = http.connect(url, token, state_dir, management=True)
    if model is None:
        if limit is not None:
            note_idle("--limit", "without MODEL letters are counted")
        models: list[ModelLetters] = server.ask("GET", http.path(DEAD), "models")["models"]
        _print(models, _models_table(models), as_json)
    else:
        letters = _letters(server, model, limit or USUAL_LETTERS)
        _print(letters, _letters_table(letters), as_json)


@dead.command("show", epilog="Example: marq dead show digits 1763641000123-0 --body > input.png")
def show(
    model: options.ModelName,
    letter_id: LetterId,
    body: Annotated[bool, typer.Option("--body", help="Print the original body of the request.")] = False,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Show how a request ended, its last log lines and its input."""
    if body and as_json:
        raise typer.BadParameter("--body and --json exclude each other")
    server, path = http.connect(url, token, state_dir, management=True), http.path(DEAD, model, letter_id)
    if body:
        with server.send("GET", path + "/body") as response:
            print_body(response.iter_bytes())
        return
    letter: Letter = server.ask("GET", path, "reason")
    if as_json:
        print_json(letter)
        return
    out().print(_facts(letter))
    for heading, text in (("Log", letter["log"]), ("Input", _shortened(letter.get("input", "")))):
        if text:
            typer.echo(f"\n{heading}:\n{_printable(text)}")


@dead.command("replay", epilog="Example: marq dead replay digits --all --version 2.0")
def replay(
    model: options.ModelName,
    ids: Ids = None,
    every: All = False,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="V", help="Model version to run them with. Default: their own."),
    ] = None,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Queue requests again, as jobs, and print the job ids.

    Their letters are removed. Exit code 1 if a request could not be replayed; its letter stays.
    """
    _check_choice(ids, every)
    server = http.connect(url, token, state_dir, management=True)
    wanted = ids or [letter["id"] for letter in _letters(server, model)][::-1]  # the oldest first
    if not wanted:
        note(f"{model} has no dead letters, so none was replayed")
    done: dict[str, list[dict[str, str]]] = {"replayed": [], "refused": []}
    chunks = [wanted[at : at + CHUNK] for at in range(0, len(wanted), CHUNK)]
    try:
        for chunk in track(chunks, "Replaying", console=err(), transient=True, disable=not err().is_terminal):
            _replay(server, model, chunk, version, done)
    finally:  # also after a failure: the ids of requests that were queued before it
        _print_replayed(done, as_json)
    if done["refused"]:
        raise typer.Exit(1)


@dead.command("delete", epilog="Example: marq dead delete digits --all --yes")
def delete(
    model: options.ModelName,
    ids: Ids = None,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting all.")] = False,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Delete dead letters for good.

    Exit code 1 if one of them does not exist.
    """
    _check_choice(ids, every)
    server = http.connect(url, token, state_dir, management=True)
    if every and not yes:
        typer.confirm(f"Delete all dead letters of {model}?", abort=True, err=True)
    paths = [http.path(DEAD, model)] if every else [http.path(DEAD, model, each) for each in ids or ()]
    deleted, failed = 0, False
    for path in paths:
        try:
            deleted += server.ask("DELETE", path, "deleted")["deleted"]
        except http.RequestFailed as error:
            complain(str(error))
            failed = True
    if as_json:
        print_json({"deleted": deleted})
    else:
        typer.echo(f"Deleted: {deleted}")
    if failed:
        raise typer.Exit(1)


def _print(found: Sequence[object], table: Table, as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif not found:
        typer.echo("No dead letters.")
    else:
        out().print(table)


def _check_choice(ids: list[str] | None, every: bool) -> None:
    if bool(ids) == every:
        raise typer.BadParameter("give the ids of letters, or --all")


def _letters(server: http.Api, model: str, limit: int | None = None) -> list[Letter]:
    """The newest first, page by page; all without a limit."""
    found: list[Letter] = []
    before: str | None = None
    while limit is None or len(found) < limit:
        params: dict[str, str | int] = {"limit": PAGE if limit is None else min(PAGE, limit - len(found))}
        if before:
            params["before"] = before
        page: LetterPage = server.ask("GET", http.path(DEAD, model), "dead_letters", params=params)
        found += page["dead_letters"]
        before = page.get("next")
        if before is None:
            break
    return found


def _replay(
    server: http.Api, model: str, ids: list[str], version: str | None, done: dict[str, list[dict[str, str]]]
) -> None:
    order = {"ids": ids} if version is None else {"ids": ids, "version": version}
    answer = server.ask("POST", http.path(DEAD, model, "replay"), "replayed", json=order)
    for outcome, letters in done.items():
        letters += answer[outcome]


def _print_replayed(done: dict[str, list[dict[str, str]]], as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        for letter in done["replayed"]:
            typer.echo(letter["job_id"])
    for letter in done["refused"]:
        complain(f"{letter['id']}: {letter['reason']}")


def _models_table(models: list[ModelLetters]) -> Table:
    table = Table("Model", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Letters", "Bytes", "Oldest", "Newest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in models:
        times = (_time(each["oldest"]), _time(each["newest"]))
        table.add_row(escape(each["model"]), str(each["count"]), str(each["bytes"]), *times)
    return table


def _letters_table(letters: list[Letter]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Id", "Died", "Version", "Tries", "Device"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Reason")
    for letter in letters:
        cells = (letter["version"], str(letter["attempts"]), letter["device"], letter["reason"])
        table.add_row(letter["id"], _time(letter["died"]), *(escape(_printable(cell)) for cell in cells))
    return table


def _facts(letter: Letter) -> Table:
    table = Table.grid(padding=(0, 2))
    facts = {name: value for name, value in letter.items() if name not in SHOWN_APART}
    for name, value in (facts | letter.get("fields", {})).items():
        if value not in ("", None):
            shown = _time(letter["died"]) if name == "died" else str(value)
            table.add_row(name.replace("_", " "), escape(_shortened(_printable(shown))))
    return table


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_INPUT else f"{text[:LONGEST_INPUT]}... (--body prints all)"


def _printable(text: str) -> str:
    """The text without control characters: it comes from clients."""
    return "".join(
        each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text
    )
