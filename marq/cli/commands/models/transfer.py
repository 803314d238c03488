"""`marq export` and `marq import`: the registered models and their settings, from one server to another."""

import json
import sys
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from marq.cli import http, options
from marq.cli.answers import Version
from marq.cli.output import complain, fail, print_json
from marq.registry.spec import SETTINGS

FORMAT = 1
STDIO = Path("-")
REGISTERED, KNOWN, FAILED = "registered", "known", "failed"  # outcomes of a version


class Exported(TypedDict):
    """One model version. `parameters` are those of POST /models."""

    model: str
    version: str
    default: bool
    min_workers: int
    max_workers: int
    parameters: dict[str, str | int]


class Outcome(TypedDict):
    """One line of `marq import`."""

    model: str
    version: str
    outcome: str
    reason: str  # of a failure


def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File to write; - or nothing: standard output.")
    ] = STDIO,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Write the registered models and their settings as JSON, for marq import.

    Archives, queued requests and jobs are not part of it.
    """
    server = http.connect(url, token, state_dir, management=True)
    found = [exported for name in server.models() for exported in _versions(server, name)]
    text = json.dumps({"format": FORMAT, "models": found}, indent=2) + "\n"
    if file == STDIO:
        typer.echo(text, nl=False)
    else:
        file.write_text(text)
        typer.echo(f"{len(found)} model versions in {file}")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of marq export; - is standard input.")],
    as_json: options.AsJson = False,
    url: options.ManagementUrl = None,
    token: options.Token = None,
    state_dir: options.StateDir = None,
) -> None:
    """Register the models of a file of marq export with this server.

    Their archives must be in its model store. Versions that are registered already stay as they are.
    Exit code 1 if a version could not be registered; the others are.
    """
    models = _read(file)
    server = http.connect(url, token, state_dir, management=True)
    registered = {(name, each["version"]) for name in server.models() for each in _versions(server, name)}
    outcomes: list[Outcome] = []
    for model in models:
        outcomes.append(_import(server, model, registered))
        if not as_json:
            _print(outcomes[-1])
    if as_json:
        print_json(outcomes)
    if failed := sum(each["outcome"] == FAILED for each in outcomes):
        fail(f"{failed} of {len(models)} model versions could not be registered.")


def _import(server: http.Api, model: Exported, registered: set[tuple[str, str]]) -> Outcome:
    found = Outcome(model=model["model"], version=model["version"], outcome=REGISTERED, reason="")
    if (model["model"], model["version"]) in registered:
        return {**found, "outcome": KNOWN}
    try:
        _register(server, model)
    except http.RequestFailed as error:
        return {**found, "outcome": FAILED, "reason": str(error)}
    return found


def _print(found: Outcome) -> None:
    label = f"{found['model']} {found['version']}"
    if found["outcome"] == FAILED:
        complain(f"{label}: {found['reason']}")
    else:
        typer.echo(f"{label}: {'is registered already' if found['outcome'] == KNOWN else 'registered'}")


def _versions(server: http.Api, name: str) -> list[Exported]:
    default = _describe(server, name, None)[0]["modelVersion"]
    return [_exported(version, default) for version in _describe(server, name, "all")]


def _describe(server: http.Api, name: str, version: str | None) -> list[Version]:
    found: list[Version] = server.json("GET", http.path("models", name, version))
    return found


def _exported(version: Version, default: str) -> Exported:
    described: dict[str, str | int] = {**version}  # type: ignore[dict-item] # settings are text and numbers
    parameters = {each.api: described[each.describe] for each in SETTINGS if each.api}
    return Exported(
        model=version["modelName"],
        version=version["modelVersion"],
        default=version["modelVersion"] == default,
        min_workers=version["minWorkers"],
        max_workers=version["maxWorkers"],
        parameters={"url": version["modelUrl"], "model_name": version["modelName"], **parameters},
    )


def _read(file: Path) -> list[Exported]:
    try:
        data = json.loads(sys.stdin.read() if file == STDIO else file.read_text())
        if data["format"] != FORMAT:
            fail(f"{file} has the format {data['format']}; this version of marq reads {FORMAT}.")
        models: list[Exported] = data["models"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        fail(f"{file} is not a file of marq export: {error}")
    return models


def _register(server: http.Api, model: Exported) -> None:
    parameters = {**model["parameters"], "initial_workers": 0, "synchronous": "true"}
    server.json("POST", http.path("models"), params=parameters)
    place = http.path("models", model["model"], model["version"])
    workers = {"min_worker": model["min_workers"], "max_worker": model["max_workers"]}
    server.json("PUT", place, params=workers)
    if model["default"]:
        server.json("PUT", f"{place}/set-default")
