"""`marq config` and `marq redis-url`."""

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from marq.cli import options
from marq.cli.output import complain, fail, out, print_json

if TYPE_CHECKING:
    from marq.host.server_file import Server

DEFAULT = "default"
REDIS_USER = "default"  # of a URL without a user: redis-cli takes an empty one at its word
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
    """Show the settings of the server that runs here, or those that marq start would use, with their sources.

    Passwords are not shown. Exit code 1 if settings are wrong; the message names all of them.
    """
    from marq.settings import loading, properties

    server = None if ts_config else find_server(state_dir)
    resolved = server.resolved() if server else None
    if resolved is None:
        server = None
        resolved = loading.resolve(properties.discover(ts_config), {"state_dir": state_dir})
        resolved.notices.extend(properties.ignored(ts_config))
    values = {
        name: {"value": _shown(name, value), "source": resolved.sources.get(name, DEFAULT)}
        for name, value in resolved.settings.model_dump(mode="json").items()
        if not changed or name in resolved.sources
    }
    if as_json:
        notes: dict[str, object] = {"without_effect": resolved.without_effect, "notices": resolved.notices}
        notes["server"] = server.pid if server else None
        print_json({"settings": values, **notes})
        return
    table = Table("Setting", "Value", "Source", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, row in values.items():
        value = "-" if row["value"] in (None, "") else str(row["value"])
        style = "dim" if row["source"] == DEFAULT else ""
        table.add_row(name, escape(value), escape(str(row["source"])), style=style)
    out().print(table)
    if server:
        text = f"These are the settings of the server that runs (pid {server.pid})."
        complain(f"{text} --ts-config FILE shows those of a file.", "Note", "yellow")
    for notice in (*resolved.without_effect, *resolved.notices):
        complain(notice, "Note", "yellow")


def find_server(state_dir: Path | None) -> "Server | None":
    from marq.host import server_file

    with contextlib.suppress(server_file.ServerNotFound):
        return server_file.find(state_dir)
    return None


def redis_url(
    socket: Annotated[
        bool, typer.Option("--socket", help="The URL of its Unix socket, as redis-py takes it.")
    ] = False,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """Print the URL of the server's Redis, with its password, for redis-cli -u and clients of any language.

    Of a Redis that the server reaches through a Unix socket it is that of the TCP port.
    """
    from marq.connections import clients, urls
    from marq.host import server_file

    node = server_file.find_node(state_dir)
    stored = os.environ.get(server_file.REDIS_VARIABLE) or (
        node.redis_url if node else server_file.find(state_dir).redis_url
    )
    clients.check(stored)
    shown = stored
    if stored.startswith("unix:") and not socket:
        options_of = urls.parse(stored)
        with clients.client(stored) as client:
            port = int(str(client.info()["tcp_port"]))
        if not port:
            fail("This Redis has no TCP port, only a Unix socket: --socket prints its URL.")
        user, password = options_of.get("username") or REDIS_USER, options_of.get("password") or ""
        login = f"{quote(user)}:{quote(password)}@" if password else ""
        shown = f"redis://{login}127.0.0.1:{port}/{options_of.get('db', 0)}"
        complain(f"redis-cli -s {options_of['path']} is quicker: --socket has the URL.", "Note", "yellow")
    elif "+sentinel:" in stored:
        complain("redis-cli takes the URL of one server: ask a Sentinel for the primary.", "Note", "yellow")
    else:
        shown = re.sub("^(rediss?://):", rf"\1{REDIS_USER}:", stored)
    if as_json:
        print_json({"url": shown})
    else:
        typer.echo(shown)


def _shown(name: str, value: object) -> object:
    from marq.settings.fields import SECRET  # with pydantic, which `marq --help` does without

    if name in SECRET:
        return HIDDEN
    if name == "redis_url":
        from marq.connections.urls import without_password

        return without_password(str(value))
    return value
