"""`marq status`."""

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from marq.cli import options
from marq.cli.commands.server import running, running_node
from marq.cli.output import out

if TYPE_CHECKING:
    from marq.queue.depth import UnreadLane
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
class NodeStatus:
    """The same for a node without a server."""

    pid: int
    uptime_s: float
    node: str
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


@dataclass(frozen=True)
class View:
    """All that is shown at one moment."""

    process: ServerStatus | NodeStatus
    models: list[ModelStatus]
    unread: "list[UnreadLane]"

    def to_dict(self) -> dict[str, object]:
        lanes = [asdict(lane) for lane in self.unread]
        return {
            **asdict(self.process),
            "models": [asdict(model) for model in self.models],
            "unread_lanes": lanes,
        }


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat it until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="S", min=0.1, help="Seconds between two views.")
    ] = 2.0,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """Show the server on this host, or its node, all models, and lanes that no pool reads.

    Exit code 1 if neither runs. With --json, --watch prints one object a line.
    """
    views = _views(state_dir, interval)
    console = out()
    if as_json:
        for view in views if watch else itertools.islice(views, 1):
            typer.echo(json.dumps(view.to_dict(), indent=None if watch else 2))
    elif not watch:
        console.print(_shown(next(views)), soft_wrap=True)
    elif not console.is_terminal:
        for view in views:
            console.print(_shown(view), soft_wrap=True)
    else:
        with Live(console=console, auto_refresh=False) as live:
            for view in views:
                live.update(_shown(view), refresh=True)


def _views(state_dir: Path | None, interval_s: float) -> Iterator[View]:
    """Raises ServerNotFound and RedisUnavailable."""
    while True:
        redis_url, process = _process(state_dir)
        yield View(process, *_read_all(redis_url))
        time.sleep(interval_s)


def _process(state_dir: Path | None) -> tuple[str, ServerStatus | NodeStatus]:
    """The URL of Redis, and the process that uses it."""
    from marq.connections.urls import without_password
    from marq.host.server_file import ServerNotFound

    try:
        server, process = running(state_dir)
    except ServerNotFound:
        if (found := running_node(state_dir)) is None:
            raise
        node, process = found
        uptime_s = round(time.time() - process.create_time(), 1)
        return node.redis_url, NodeStatus(node.pid, uptime_s, node.name, without_password(node.redis_url))
    return server.redis_url, ServerStatus(
        pid=server.pid,
        uptime_s=round(time.time() - process.create_time(), 1),
        inference_address=server.inference_address,
        management_address=server.management_address,
        redis=without_password(server.redis_url),
    )


def _read_all(redis_url: str) -> "tuple[list[ModelStatus], list[UnreadLane]]":
    """Raises RedisUnavailable."""
    import redis

    from marq.connections import clients
    from marq.errors import RedisUnavailable
    from marq.queue import depth
    from marq.registry.models import Registry

    clients.check(redis_url)
    try:
        with clients.client(redis_url) as client:
            registry = Registry(client)
            return list(_read(registry)), depth.unread(client, registry.models())
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


def _shown(view: View) -> Group:
    process, models = view.process, view.models
    lines: list[RenderableType] = [f"Running for {_duration(process.uptime_s)}, pid {process.pid}"]
    if isinstance(process, ServerStatus):
        lines.append(f"Inference   {process.inference_address}")
        lines.append(f"Management  {process.management_address}")
    else:
        lines.append(f"Node        {escape(process.node)}")
    lines.append(f"Redis       {escape(process.redis)}")
    if models:
        lines += [_table(models), f"{DEFAULT_MARK} default version"]
    else:
        lines.append("No models are registered.")
    for model in models:
        if model.reason:
            lines.append(Text.assemble((f"{model.name} {model.version}: ", "red"), model.reason))
        for notice in model.notices:
            lines.append(Text.assemble((f"{model.name} {model.version}: ", "yellow"), notice))
    for lane in view.unread:
        meant = f" Did you mean {lane.meant}?" if lane.meant else ""
        lines.append(Text(f"No pool reads {lane.key}: {lane.entries} entries wait.{meant}", style="yellow"))
    return Group(*lines)


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
