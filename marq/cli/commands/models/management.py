"""`marq models`, `describe`, `register`, `scale`, `set-default` and `unregister`: the management API."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from marq.cli import archive_names, http, model_tables, options
from marq.cli.answers import Version
from marq.cli.output import fail, out, print_json
from marq.registry.spec import SETTINGS

NEGATIVE = re.compile(r"-[0-9]+")
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the replicas are ready.")]
Force = Annotated[bool, typer.Option("--force", help="Start more replicas than hosts like this one can run.")]


def _option(api: str, metavar: str = "N") -> object:
    """The option of a setting, with its description and bounds."""
    setting = next(each for each in SETTINGS if each.api == api)
    name = "--" + api.replace("_", "-")
    help_ = setting.description
    return typer.Option(name, metavar=metavar, min=setting.least, max=setting.most, help=help_)


def models(
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """List the registered models."""
    server = http.connect(url, token, state_dir, management=True)
    versions = [version for name in server.models() for version in _describe(server, name, "all")]
    if as_json:
        print_json([model_tables.summary(version) for version in versions])
    elif versions:
        out().print(model_tables.overview(versions))
    else:
        typer.echo("No models are registered.")


def describe(
    model: options.ModelName,
    version: options.ModelVersion = None,
    customized: Annotated[
        bool, typer.Option("--customized", help="Ask the handler to describe the model, too.")
    ] = False,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Show the settings and replicas of a model version, and why it cannot be loaded.

    The version "all" shows every version.
    """
    server = http.connect(url, token, state_dir, management=True)
    described = _describe(server, model, version, customized="true" if customized else "false")
    if as_json:
        print_json(described)
        return
    for each in described:
        out().print(model_tables.details(each))


def register(
    archive: Annotated[
        str,
        typer.Argument(
            metavar="ARCHIVE",
            help="File in the model store, or an allowed URL.",
            autocompletion=archive_names.complete_of_server,
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the model. Default: the archive's.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="Number of replicas to start.")
    ] = 1,
    batch_size: Annotated[int | None, _option("batch_size")] = None,
    max_batch_delay: Annotated[int | None, _option("max_batch_delay", "MS")] = None,
    handler: Annotated[
        str | None,
        typer.Option("--handler", metavar="NAME", help="Handler of the model. Default: the archive's."),
    ] = None,
    response_timeout: Annotated[int | None, _option("response_timeout", "S")] = None,
    startup_timeout: Annotated[int | None, _option("startup_timeout", "S")] = None,
    max_attempts: Annotated[int | None, _option("max_attempts")] = None,
    force: Force = False,
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
        "max_attempts": max_attempts,
        "force": "true" if force else None,
        "synchronous": "true" if wait else "false",
    }
    server = http.connect(url, token, state_dir, management=True)
    try:
        _send(server, "POST", http.path("models"), as_json, given)
    except http.RequestFailed as error:
        there = [] if url else archive_names.of_server(state_dir)
        if http.NO_ARCHIVE not in str(error) or not there:
            raise
        fail(f"{error}. The model store has {', '.join(there)}.")


class ScaleCommand(TyperCommand):
    """Refuses a negative number as a number, not as an unknown option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for each in args:
            if NEGATIVE.fullmatch(each):
                raise typer.BadParameter(f"{each} is not in the range x>=0.", ctx=ctx, param_hint="'N'")
        return super().parse_args(ctx, args)


def scale(
    model: options.ModelName,
    workers: Annotated[
        int | None,
        typer.Argument(metavar="N", min=0, help="Number of replicas. Optional with --max-attempts."),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "--max",
            metavar="N",
            min=0,
            help="Maximum number of replicas. Default: N, or unchanged where it follows the queue.",
        ),
    ] = None,
    max_attempts: Annotated[int | None, _option("max_attempts")] = None,
    version: options.ModelVersion = None,
    force: Force = False,
    wait: Wait = True,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Set the number of replicas of a model version, or its maximum attempts per request."""
    if workers is None and (max_attempts is None or most is not None):
        raise typer.BadParameter("The number of replicas is missing.", param_hint="N")
    given = {
        "min_worker": workers,
        "max_worker": most,
        "max_attempts": max_attempts,
        "force": "true" if force else None,
        "synchronous": "true" if wait else "false",
    }
    server = http.connect(url, token, state_dir, management=True)
    _send(server, "PUT", http.path("models", model, version), as_json, given)


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
    _send(server, "POST", http.path("models", model, version, "reload"), as_json, given)


def set_default(
    model: options.ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A registered version.")],
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Make a version the default, which serves requests that name no version."""
    server = http.connect(url, token, state_dir, management=True)
    _send(server, "PUT", http.path("models", model, version, "set-default"), as_json)


def unregister(
    model: options.ModelName,
    version: options.ModelVersion = None,
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Remove a model version: running requests finish, queued requests are answered with 503.

    The server must allow it: marq start --enable-model-api.
    """
    server = http.connect(url, token, state_dir, management=True)
    _send(server, "DELETE", http.path("models", model, version), as_json)


def _describe(server: http.Api, model: str, version: str | None, **params: str) -> list[Version]:
    answer = server.json("GET", http.path("models", model, version), params=params)
    return list(answer) if isinstance(answer, list) else []


def _send(
    server: http.Api,
    method: str,
    path: str,
    as_json: bool,
    params: Mapping[str, str | int | None] | None = None,
) -> None:
    """Prints the server's answer."""
    given = {name: value for name, value in (params or {}).items() if value is not None}
    answer = server.ask(method, path, "status", params=given)
    if as_json:
        print_json(answer)
    else:
        typer.echo(answer["status"])
