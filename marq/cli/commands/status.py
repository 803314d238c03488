"""`marq status`."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from marq.cli import options
from marq.cli.commands.server import running
from marq.cli.output import out

if TYPE_CHECKING:
    from marq.registry.models import Registry
    from marq.registry.reports import PoolReport, ReplicaReport
    from marq.registry.spec import ModelSpec

READY, LOADING, FAILING, STOPPED = "ready", "loading", "failing", "stopped"
DEFAULT_MARK = " *"
STYLES = {READY: "green", LOADING: "yellow", FAILING: "red", STOPPED: "dim"}


@dataclass(frozen=True)
class ServerStatus:
    """The lines above the table."""

    pid: int
    uptime_s: float
    inference_address: str
    management_address: str
    redis: str


@dataclass(frozen=True)
class ModelStatus:
    """One line of the table."""

    name: str
    version: str
    default: bool
    state: str
    reason: str  # why it fails: the last line that the replica printed
    replicas_ready: int
    replicas_wanted: int
    devices: list[str]
    waiting: int
    requests: int  # done by the replicas that run now
    mean_batch_size: float | None
    notices: list[str]  # how it works otherwise than asked


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Show the server on this host and its models.

    Exit code 1 if no server runs.
    """
    from marq.connections.urls import without_password

    server, process = running(state_dir)
    shown = ServerStatus(
        pid=server.pid,
        uptime_s=round(time.time() - process.create_time(), 1),
        inference_address=server.inference_address,
        management_address=server.management_address,
        redis=without_password(server.redis_url),
    )
    models = _models(server.redis_url)
    if as_json:
        typer.echo(json.dumps({**asdict(shown), "models": [asdict(model) for model in models]}, indent=2))
    else:
        _print(shown, models)


def _models(redis_url: str) -> list[ModelStatus]:
    """Raises RedisUnavailable."""
    import redis

    from marq.connections import clients
    from marq.errors import RedisUnavailable
    from marq.registry.models import Registry

    clients.check(redis_url)
    try:
        with clients.client(redis_url) as client:
            return list(_read(Registry(client)))
    except redis.RedisError as error:
        raise RedisUnavailable(f"Redis does not answer: {error}") from error


def _read(registry: "Registry") -> Iterator[ModelStatus]:
    from marq.queue import depth

    snapshot = registry.snapshot()
    models = snapshot.models
    depths = depth.read(registry.redis, models)
    for spec in sorted(models, key=lambda spec: (spec.name, spec.version)):
        is_default = models.defaults.get(spec.name) == spec.version
        yield summarize(
            spec, is_default, snapshot.replicas(spec), snapshot.of(spec), depths[spec.key].waiting
        )


def summarize(
    spec: "ModelSpec",
    is_default: bool,
    replicas: "list[ReplicaReport]",
    reports: "list[PoolReport]",
    waiting: int,
) -> ModelStatus:
    """The line of a model version, from the reports of the pools that are alive."""
    from marq.registry.notices import notices

    ready = sum(replica.is_ready for replica in replicas)
    reason = "" if ready >= spec.min_workers else _reason(reports)
    requests = sum(replica.requests for replica in replicas)
    batches = sum(replica.batches for replica in replicas)
    return ModelStatus(
        name=spec.name,
        version=spec.version,
        default=is_default,
        state=_state(ready, spec.min_workers, reason),
        reason=reason,
        replicas_ready=ready,
        replicas_wanted=spec.min_workers,
        devices=sorted({replica.device for replica in replicas}),
        waiting=waiting,
        requests=requests,
        mean_batch_size=round(requests / batches, 2) if batches else None,
        notices=notices(spec, reports),
    )


def _state(ready: int, wanted: int, reason: str) -> str:
    if reason:
        return FAILING
    if ready >= wanted:
        return READY if ready else STOPPED
    return LOADING


def _reason(reports: "list[PoolReport]") -> str:
    """Why the pool that failed last does."""
    failing = [(report.reported, report.reason) for report in reports if report.failures]
    _, latest = max(failing, default=(0.0, ""))
    lines = [line.strip() for line in latest.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _print(server: ServerStatus, models: list[ModelStatus]) -> None:
    console = out()
    console.print(f"Running for {_duration(server.uptime_s)}, pid {server.pid}")
    console.print(f"Inference   {server.inference_address}")
    console.print(f"Management  {server.management_address}")
    console.print(f"Redis       {escape(server.redis)}")
    if not models:
        console.print("No models are registered.")
        return
    console.print(_table(models))
    console.print(f"{DEFAULT_MARK} default version")
    for model in models:
        if model.reason:
            line = Text.assemble((f"{model.name} {model.version}: ", "red"), model.reason)
            console.print(line, soft_wrap=True)
        for notice in model.notices:
            line = Text.assemble((f"{model.name} {model.version}: ", "yellow"), notice)
            console.print(line, soft_wrap=True)


def _table(models: list[ModelStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Model", "Version", "State"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    for heading in ("Replicas", "Waiting", "Done", "Mean batch"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Devices", overflow="fold")
    for model in models:
        table.add_row(
            escape(model.name),
            escape(model.version) + (DEFAULT_MARK if model.default else ""),
            f"[{STYLES[model.state]}]{model.state}[/]",
            f"{model.replicas_ready}/{model.replicas_wanted}",
            str(model.waiting),
            str(model.requests),
            "-" if model.mean_batch_size is None else f"{model.mean_batch_size:.1f}",
            " ".join(model.devices) or "-",
        )
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(parts[:2]) or "0 s"
