"""`marq start`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypedDict

import typer

from marq.cli import archive_names, options

if TYPE_CHECKING:
    from marq.settings.fields import Settings


class Bounds(TypedDict):
    """The options of a number for typer."""

    min: int
    max: int


PORTS: Bounds = {"min": 1, "max": 65535}


def start(
    model_store: Annotated[
        Path | None,
        typer.Option(
            "--model-store", metavar="DIR", resolve_path=True, help="Directory of the model archives."
        ),
    ] = None,
    workflow_store: Annotated[
        Path | None,
        typer.Option(
            "--workflow-store",
            metavar="DIR",
            resolve_path=True,
            help="Directory of the workflow archives. Default: the model store.",
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
    grpc_port: Annotated[
        int | None,
        typer.Option("--grpc-port", metavar="N", help="Port for inference by gRPC. Default: 7070.", **PORTS),
    ] = None,
    grpc_management_port: Annotated[
        int | None,
        typer.Option(
            "--grpc-management-port",
            metavar="N",
            help="Port for management by gRPC. Default: 7071.",
            **PORTS,
        ),
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
    plugins_path: Annotated[
        str | None,
        typer.Option(
            "--plugins-path",
            metavar="DIR",
            help="Directories with packages of plugins, separated by commas. marq plugins lists them.",
        ),
    ] = None,
    state_dir: options.StateDir = None,
    disable_token_auth: Annotated[
        bool, typer.Option("--disable-token-auth", "--dt", help="Answer requests without a token.")
    ] = False,
    enable_model_api: Annotated[
        bool, typer.Option("--enable-model-api", help="Allow registering and unregistering models over HTTP.")
    ] = False,
    celery_bridge: Annotated[
        bool, typer.Option("--celery-bridge", help="Run a `marq bridge`, too: tasks of Celery's clients.")
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
        "workflow_store": workflow_store,
        "models": ",".join(models) if models else None,
        "redis_url": redis_url,
        "gateway_workers": gateway_workers,
        "grpc_inference_port": grpc_port,
        "grpc_management_port": grpc_management_port,
        "default_workers_per_model": workers,
        "stop_timeout": stop_timeout,
        "plugins_path": plugins_path,
        "state_dir": state_dir,
        "disable_token_auth": disable_token_auth or None,
        "enable_model_api": enable_model_api or None,
        "celery_bridge": celery_bridge or None,
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
        from marq.settings import addresses, grpc_addresses, properties

        ports = {
            "inference_address": self.port,
            "management_address": self.management_port,
            "metrics_address": self.metrics_port,
        }
        try:
            moved = {
                name: addresses.moved(getattr(settings, name), name, self.host, port)
                for name, port in ports.items()
                if self.host or port
            }
        except ValueError as error:
            raise properties.SettingsError(f"{error}.") from None
        if self.host:
            served = grpc_addresses.planes(settings)
            moved |= {f"grpc_{plane.name}_address": self.host for plane in served if not plane.path}
        return moved


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
    resolved.notices.extend(properties.ignored(ts_config))
    for flag, store in ("model", resolved.settings.model_store), ("workflow", given.get("workflow_store")):
        if isinstance(store, Path) and not store.is_dir():
            raise properties.SettingsError(f"--{flag}-store directory not found: {store}")
    supervisor.start(resolved, typer.echo, joins)
