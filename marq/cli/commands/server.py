"""`marq start` and `marq stop`."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from marq.cli import archive_names, options
from marq.cli.output import err
from marq.errors import MarqError

if TYPE_CHECKING:
    import psutil

    from marq.host.server_file import Node, Server
    from marq.settings.fields import Settings

STOP_MARGIN_S = 60.0  # beyond what gateways and pools may take
CLOCK_SLACK_S = 5.0
PORTS: Any = {"min": 1, "max": 65535}


class StopFailed(MarqError):
    """Raised when the server does not stop in time."""


class StartCommand(TyperCommand):
    """Lets `--models` take several values, as TorchServe does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # else a shell completes a line that is not finished
            args = join_values(args, "--models")
        return super().parse_args(ctx, args)


def join_values(args: list[str], option: str) -> list[str]:
    """The arguments with all values that follow `option`, up to the next option, joined by commas.

    Raises typer.BadParameter if none follows.
    """
    joined: list[str] = []
    values: list[str] | None = None
    for arg in [*args, "--"]:
        if values is not None and not arg.startswith("-"):
            values.append(arg)
            continue
        if values is not None:
            joined.append(_joined(values, option))
        name, equals, value = arg.partition("=")
        values = ([value] if equals else []) if name == option else None
        if values is None:
            joined.append(arg)
    return joined[:-1]


def _joined(values: list[str], option: str) -> str:
    items = [item.strip() for value in values for item in value.split(",") if item.strip()]
    if not items:
        raise typer.BadParameter("at least one value is needed", param_hint=option)
    return f"{option}={','.join(items)}"


def start(
    model_store: Annotated[
        Path | None,
        typer.Option(
            "--model-store", metavar="DIR", resolve_path=True, help="Directory of the model archives."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            metavar="FILE ...",
            autocompletion=archive_names.complete_all,
            help="Archives to load: files or URLs, optionally as NAME=FILE. all: the whole store.",
        ),
    ] = None,
    ts_config: Annotated[
        Path | None,
        typer.Option(
            "--ts-config",
            metavar="FILE",
            help="TorchServe's config.properties; TS_CONFIG_FILE wins. Default: ./config.properties.",
        ),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(
            "--redis-url", metavar="URL", help="Redis to use. Default: MARQ_REDIS_URL, or an embedded server."
        ),
    ] = None,
    gateway_workers: Annotated[
        int | None, typer.Option("--gateway-workers", metavar="N", min=1, help="Number of gateway processes.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="HOST", help="Host of all addresses, 0.0.0.0 for all. Default: 127.0.0.1."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="Port for predictions. Default: 8080.", **PORTS)
    ] = None,
    management_port: Annotated[
        int | None,
        typer.Option("--management-port", metavar="N", help="Port for management. Default: 8081.", **PORTS),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", metavar="N", help="Port for metrics. Default: 8082.", **PORTS),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            help="Replicas of each model that does not set minWorkers. Default: one per GPU or CPU core.",
        ),
    ] = None,
    stop_timeout: Annotated[
        int | None,
        typer.Option(
            "--stop-timeout",
            metavar="S",
            min=1,
            help="Most time that requests in flight, and then running batches, have to finish at a stop. "
            "Default: the longest responseTimeout of a registered model.",
        ),
    ] = None,
    state_dir: options.StateDir = None,
    disable_token_auth: Annotated[
        bool, typer.Option("--disable-token-auth", "--dt", help="Answer requests without a token.")
    ] = False,
    enable_model_api: Annotated[
        bool, typer.Option("--enable-model-api", help="Allow registering and unregistering models over HTTP.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Do not start if a line of config.properties has no effect.")
    ] = False,
) -> None:
    """Run a server in the foreground until Ctrl-C or `marq stop`.

    Settings that are not given here come from MARQ_... variables, then from config.properties;
    `marq config` shows the source of each setting.
    """
    given = {
        "model_store": model_store,
        "models": ",".join(models) if models else None,
        "redis_url": redis_url,
        "gateway_workers": gateway_workers,
        "default_workers_per_model": workers,
        "stop_timeout": stop_timeout,
        "state_dir": state_dir,
        "disable_token_auth": disable_token_auth or None,
        "enable_model_api": enable_model_api or None,
        "strict_config": strict or None,
    }
    run(given, ts_config, Listening(host, port, management_port, metrics_port))


@dataclass(frozen=True)
class Listening:
    """Options that change parts of the addresses that the other settings give."""

    host: str | None = None
    port: int | None = None
    management_port: int | None = None
    metrics_port: int | None = None

    def addresses(self, settings: "Settings") -> dict[str, str]:
        """The addresses that change, by their settings. Raises SettingsError."""
        from marq.settings import addresses, properties

        ports = {
            "inference_address": self.port,
            "management_address": self.management_port,
            "metrics_address": self.metrics_port,
        }
        try:
            return {
                name: addresses.moved(getattr(settings, name), name, self.host, port)
                for name, port in ports.items()
                if self.host or port
            }
        except ValueError as error:
            raise properties.SettingsError(f"{error}.") from None


def run(
    given: Mapping[str, object],
    ts_config: Path | None,
    listening: Listening | None = None,
    joins: bool = False,
) -> NoReturn:
    """Becomes a server with these settings; `joins` as for `Supervisor`. Raises MarqError."""
    from marq.host import supervisor
    from marq.settings import loading, properties

    file = properties.discover(ts_config)
    resolved = loading.resolve(file, given)
    if listening and (moved := listening.addresses(resolved.settings)):
        resolved = loading.resolve(file, {**given, **moved})
    store = resolved.settings.model_store
    if store and not store.is_dir():
        raise properties.SettingsError(f"--model-store directory not found: {store}")
    supervisor.start(resolved, typer.echo, joins)


def stop(state_dir: options.StateDir = None) -> None:
    """Stop the server, or the node of `marq node`: running requests finish, queued requests stay queued.

    Exit code 0 also if none runs, 1 if it has not ended a minute after it should have.
    """
    import psutil

    from marq.host import processes, server_file, stop_limit

    try:
        _, process = running(state_dir)
    except server_file.ServerNotFound:
        if (node := running_node(state_dir)) is None:
            typer.echo(f"No marq server runs with the state directory {server_file.state_dir(state_dir)}.")
            return
        _, process = node
    ended = True
    timeout_s = 2 * stop_limit.read(server_file.state_dir(state_dir)) + STOP_MARGIN_S
    with err().status(f"Stopping marq (pid {process.pid})"), contextlib.suppress(psutil.NoSuchProcess):
        ended = processes.end(process, timeout_s)
    if not ended:
        raise StopFailed(f"marq (pid {process.pid}) has not stopped after {timeout_s:g} s.")
    typer.echo(f"marq (pid {process.pid}) has stopped.")


def running(state_dir: Path | None) -> "tuple[Server, psutil.Process]":
    """The server of this state directory and its process. Raises ServerNotFound.

    A process that is younger than the server's file has only taken over the pid of a killed server.
    """
    from marq.host import server_file

    server = server_file.find(state_dir)
    path = server_file.state_dir(state_dir) / server_file.FILE_NAME
    if process := _process(server.pid, path):
        return server, process
    raise server_file.ServerNotFound(
        f"No marq server runs with the state directory {path.parent}. Process {server.pid} is another one."
    )


def running_node(state_dir: Path | None) -> "tuple[Node, psutil.Process] | None":
    """The same for `marq node`."""
    from marq.host import server_file

    node = server_file.find_node(state_dir)
    path = server_file.state_dir(state_dir) / server_file.NODE_FILE_NAME
    process = _process(node.pid, path) if node else None
    return (node, process) if node and process else None


def _process(pid: int, file: Path) -> "psutil.Process | None":
    """The process that has written the file, unless it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        is_its = process.create_time() <= file.stat().st_mtime + CLOCK_SLACK_S
    except (psutil.Error, OSError):
        return None
    return process if is_its else None
