"""`marq models`, `describe`, `register`, `scale`, `set-default` and `unregister`: the management API."""

import json
from typing import Annotated, Any

import typer

from marq.cli import http, model_names, model_tables, options
from marq.cli.output import out

Attempts = Annotated[
    int | None,
    typer.Option(
        "--max-attempts", metavar="N", min=1, help="How often to try a request that ends its replicas."
    ),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the replicas are ready.")]


def models(
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """List the registered models."""
    server = http.connect(url, token, state_dir, management=True)
    versions = [version for name in model_names.listed(server) for version in _describe(server, name, "all")]
    if as_json:
        typer.echo(json.dumps([model_tables.summary(version) for version in versions], indent=2))
    elif versions:
        out().print(model_tables.overview(versions))
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
    """Show a model version's settings and replicas, and why these cannot be loaded.

    The version all shows all of them.
    """
    server = http.connect(url, token, state_dir, management=True)
    described = _describe(server, model, version, customized="true" if customized else "false")
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    for each in described:
        out().print(model_tables.details(each))


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
    max_attempts: Attempts = None,
    wait: Wait = True,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Register a model version and start its replicas.

    The server must allow it: marq start --enable-model-http.
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
        "max_attempts": max_attempts,
        "synchronous": "true" if wait else "false",
    }
    server = http.connect(url, token, state_dir, management=True)
    _tell(server, "POST", http.path("models"), as_json, given)


def scale(
    model: options.ModelName,
    workers: Annotated[
        int | None,
        typer.Argument(metavar="N", min=0, help="How many replicas. May be left out with --max-attempts."),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", metavar="N", min=0, help="How many at most. Default: N.")
    ] = None,
    max_attempts: Attempts = None,
    version: options.ModelVersion = None,
    wait: Wait = True,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Set how many replicas a model version has, or how often its requests may be tried."""
    if workers is None and (max_attempts is None or most is not None):
        raise typer.BadParameter("Say how many replicas.", param_hint="N")
    given = {
        "min_worker": workers,
        "max_worker": workers if most is None else most,
        "max_attempts": max_attempts,
        "synchronous": "true" if wait else "false",
    }
    server = http.connect(url, token, state_dir, management=True)
    _tell(server, "PUT", http.path("models", model, version), as_json, given)


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
    server = http.connect(url, token, state_dir, management=True)
    given = {"synchronous": "true" if wait else "false"}
    _tell(server, "POST", http.path("models", model, version, "reload"), as_json, given)


def set_default(
    model: options.ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A registered version.")],
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Make a version the one that requests without a version get."""
    server = http.connect(url, token, state_dir, management=True)
    _tell(server, "PUT", http.path("models", model, version, "set-default"), as_json)


def unregister(
    model: options.ModelName,
    version: options.ModelVersion = None,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Remove a model version: what runs is finished, what waits is answered with 503.

    The server must allow it: marq start --enable-model-http.
    """
    server = http.connect(url, token, state_dir, management=True)
    _tell(server, "DELETE", http.path("models", model, version), as_json)


def _describe(server: http.Api, model: str, version: str | None, **params: str) -> list[dict[str, Any]]:
    answer = server.json("GET", http.path("models", model, version), params=params)
    return list(answer) if isinstance(answer, list) else []


def _tell(
    server: http.Api, method: str, path: str, as_json: bool, params: dict[str, Any] | None = None
) -> None:
    """Prints the server's own words."""
    given = {name: value for name, value in (params or {}).items() if value is not None}
    answer = server.ask(method, path, "status", params=given)
    typer.echo(json.dumps(answer, indent=2) if as_json else answer["status"])
