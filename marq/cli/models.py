"""`marq models`, `describe`, `register`, `scale`, `set-default` and `unregister`: the management API."""

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from marq.cli import api, options
from marq.cli.terminal import out

PAGE = 100
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the replicas are ready.")]


def models(
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """List the registered models."""
    server = api.connect(url, token, state_dir, management=True)
    versions = [version for name in listed(server) for version in _describe(server, name, "all")]
    if as_json:
        typer.echo(json.dumps([_summary(version) for version in versions], indent=2))
    elif versions:
        out().print(_table(versions))
    else:
        typer.echo("No models are registered.")


def describe(
    model: options.ModelName,
    version: options.ModelVersion = None,
    customized: Annotated[
        bool, typer.Option("--customized", help="Ask the handler for what it tells of itself, too.")
    ] = False,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Show a model version's settings and replicas.

    The version all shows all of them.
    """
    server = api.connect(url, token, state_dir, management=True)
    described = _describe(server, model, version, customized="true" if customized else "false")
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    for each in described:
        replicas = each.pop("workers", [])
        out().print(_facts(each))
        if replicas:
            out().print(_replicas(replicas))


def register(
    archive: Annotated[
        str, typer.Argument(metavar="ARCHIVE", help="A file in the model store, or a URL that is allowed.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Default: the archive's.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="How many replicas to start.")
    ] = 1,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", min=1, help="The most rows of a batch.")
    ] = None,
    max_batch_delay: Annotated[
        int | None, typer.Option("--max-batch-delay", metavar="MS", min=0, help="The longest wait for one.")
    ] = None,
    handler: Annotated[
        str | None, typer.Option("--handler", metavar="NAME", help="Default: the archive's.")
    ] = None,
    response_timeout: Annotated[
        int | None, typer.Option("--response-timeout", metavar="S", min=1, help="The longest run of a batch.")
    ] = None,
    startup_timeout: Annotated[
        int | None, typer.Option("--startup-timeout", metavar="S", min=1, help="The longest start.")
    ] = None,
    wait: Wait = True,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Register a model version and start its replicas.

    The server must allow it: marq start --enable-model-api.
    """
    given = {
        "url": archive,
        "model_name": name,
        "initial_workers": workers,
        "batch_size": batch_size,
        "max_batch_delay": max_batch_delay,
        "handler": handler,
        "response_timeout": response_timeout,
        "startup_timeout": startup_timeout,
        "synchronous": "true" if wait else "false",
    }
    server = api.connect(url, token, state_dir, management=True)
    _tell(server, "POST", api.path("models"), as_json, given)


def scale(
    model: options.ModelName,
    workers: Annotated[int, typer.Argument(metavar="N", min=0, help="How many replicas.")],
    most: Annotated[
        int | None, typer.Option("--max", metavar="N", min=0, help="How many at most. Default: N.")
    ] = None,
    version: options.ModelVersion = None,
    wait: Wait = True,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Set how many replicas a model version has."""
    given = {
        "min_worker": workers,
        "max_worker": workers if most is None else most,
        "synchronous": "true" if wait else "false",
    }
    server = api.connect(url, token, state_dir, management=True)
    _tell(server, "PUT", api.path("models", model, version), as_json, given)


def reload(
    model: options.ModelName,
    version: options.ModelVersion = None,
    wait: Wait = True,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Replace all replicas, each when its successor is ready; no request fails."""
    server = api.connect(url, token, state_dir, management=True)
    given = {"synchronous": "true" if wait else "false"}
    _tell(server, "POST", api.path("models", model, version, "reload"), as_json, given)


def set_default(
    model: options.ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A registered version.")],
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Make a version the one that requests without a version get."""
    server = api.connect(url, token, state_dir, management=True)
    _tell(server, "PUT", api.path("models", model, version, "set-default"), as_json)


def unregister(
    model: options.ModelName,
    version: options.ModelVersion = None,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Remove a model version: what runs is finished, what waits is answered with 503.

    The server must allow it: marq start --enable-model-api.
    """
    server = api.connect(url, token, state_dir, management=True)
    _tell(server, "DELETE", api.path("models", model, version), as_json)


def names() -> list[str]:
    """The models of the server on this host. Raises MarqError."""
    return listed(api.connect(None, None, None, management=True))


def listed(server: api.Api) -> list[str]:
    """The names of all models, page by page."""
    found: list[str] = []
    first: str | None = "0"
    while first is not None:
        page = server.ask(
            "GET", api.path("models"), "models", params={"limit": PAGE, "next_page_token": first}
        )
        found += [model["modelName"] for model in page["models"]]
        first = page.get("nextPageToken") if page["models"] else None
    return found


def _describe(server: api.Api, model: str, version: str | None, **params: str) -> list[dict[str, Any]]:
    answer = server.json("GET", api.path("models", model, version), params=params)
    return list(answer) if isinstance(answer, list) else []


def _tell(
    server: api.Api, method: str, path: str, as_json: bool, params: dict[str, Any] | None = None
) -> None:
    """Prints the server's own words."""
    given = {name: value for name, value in (params or {}).items() if value is not None}
    answer = server.ask(method, path, "status", params=given)
    typer.echo(json.dumps(answer, indent=2) if as_json else answer["status"])


def _summary(version: dict[str, Any]) -> dict[str, Any]:
    ready = sum(worker["status"] == "READY" for worker in version["workers"])
    return {
        "name": version["modelName"],
        "version": version["modelVersion"],
        "url": version["modelUrl"],
        "replicas_ready": ready,
        "replicas_wanted": version["minWorkers"],
        "batch_size": version["batchSize"],
        "max_batch_delay_ms": version["maxBatchDelay"],
        "loaded_at_startup": version["loadedAtStartup"],
    }


def _table(versions: list[dict[str, Any]]) -> Table:
    table = Table("Model", "Version", "Archive", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Replicas", "Batch", "Delay"):
        table.add_column(heading, justify="right", no_wrap=True)
    for version in map(_summary, versions):
        table.add_row(
            *(escape(str(version[key])) for key in ("name", "version", "url")),
            f"{version['replicas_ready']}/{version['replicas_wanted']}",
            str(version["batch_size"]),
            f"{version['max_batch_delay_ms']} ms",
        )
    return table


def _facts(described: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in described.items():
        shown = json.dumps(value) if isinstance(value, dict | list) else str(value)
        table.add_row(name, escape(shown))
    return table


def _replicas(replicas: list[dict[str, Any]]) -> Table:
    """One line for each, with the columns that the server tells of."""
    columns = [key for key, value in replicas[0].items() if not isinstance(value, dict | list)]
    table = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for replica in replicas:
        table.add_row(*(escape(str(replica.get(column, ""))) for column in columns))
    return table
