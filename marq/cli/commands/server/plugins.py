"""`marq plugins`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from marq.cli import options
from marq.cli.commands.server import config
from marq.cli.output import complain, out, print_json


def plugins(
    plugins_path: Annotated[
        str | None,
        typer.Option("--plugins-path", metavar="DIR", help="As for marq start."),
    ] = None,
    ts_config: Annotated[
        Path | None,
        typer.Option("--ts-config", metavar="FILE", help="As for marq start."),
    ] = None,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """List the plugins that were found, where, and what they hook; each one is loaded for that.

    The settings are those of the server that runs here, unless options are given. Exit code 1 if a plugin
    cannot be used: then marq start refuses to start.
    """
    from marq.host import plugin_check
    from marq.settings import loading, properties

    server = None if plugins_path or ts_config else config.find_server(state_dir)
    resolved = server.resolved() if server else None
    if resolved is None:
        given = {"plugins_path": plugins_path, "state_dir": state_dir}
        resolved = loading.resolve(properties.discover(ts_config), given)
    checked = plugin_check.examine(resolved.settings)
    if as_json:
        print_json([{**asdict(each.found), "hooks": each.hooks, "error": each.error} for each in checked])
    elif not checked:
        complain("No plugins were found.", "Note", "yellow")
    else:
        table = Table("Group", "Name", "Package", "From", "Hooks", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for each in checked:
            found = each.found
            cells = (found.group, found.name, f"{found.package} {found.version}", found.place)
            table.add_row(*(escape(cell) for cell in (*cells, each.hooks or "-")))
        out().print(table)
    for each in checked:
        if each.error:
            complain(each.error)
    if any(each.error for each in checked):
        raise typer.Exit(1)
