"""`marq config`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from marq.cli import options
from marq.cli.output import complain, out

DEFAULT = "default"
SECRET = frozenset(("keystore_pass",))
HIDDEN = "***"


def config(
    ts_config: Annotated[
        Path | None,
        typer.Option(
            "--ts-config",
            metavar="FILE",
            help="TorchServe's config.properties; TS_CONFIG_FILE wins. Default: ./config.properties.",
        ),
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out defaults.")] = False,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """Show the settings that marq start would use here, and the source of each.

    Passwords are not shown. Exit code 1 if settings are wrong; the message names all of them.
    """
    from marq.settings import loading, properties

    resolved = loading.resolve(properties.discover(ts_config), {"state_dir": state_dir})
    values = {
        name: {"value": _shown(name, value), "source": resolved.sources.get(name, DEFAULT)}
        for name, value in resolved.settings.model_dump(mode="json").items()
        if not changed or name in resolved.sources
    }
    if as_json:
        notes = {"without_effect": resolved.without_effect, "notices": resolved.notices}
        typer.echo(json.dumps({"settings": values, **notes}, indent=2))
        return
    table = Table("Setting", "Value", "Source", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, row in values.items():
        value = "-" if row["value"] in (None, "") else str(row["value"])
        style = "dim" if row["source"] == DEFAULT else ""
        table.add_row(name, escape(value), escape(str(row["source"])), style=style)
    out().print(table)
    for notice in (*resolved.without_effect, *resolved.notices):
        complain(notice, "Note", "yellow")


def _shown(name: str, value: object) -> object:
    if name in SECRET:
        return HIDDEN
    if name == "redis_url":
        from marq.connections.urls import without_password

        return without_password(str(value))
    return value
