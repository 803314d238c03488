"""`marq status`."""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live

from marq.cli import options
from marq.cli.output import note_idle, out, print_json
from marq.cli.running import running, running_node
from marq.cli.status_tables import (
    FAILING,
    LOADING,
    READY,
    RESTING,
    STOPPED,
    ModelStatus,
    NodeStatus,
    ServerStatus,
    View,
    shown,
)

if TYPE_CHECKING:
    from marq.queue.depth import UnreadLane
    from marq.registry.models import Registry
    from marq.registry.reports import PoolReport, ReplicaReport
    from marq.registry.snapshot import Snapshot
    from marq.registry.spec import ModelSpec

USUAL_INTERVAL_S = 2.0


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat it until Ctrl-C.")] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval", metavar="S", min=0.1, help="Seconds between two views of --watch. Default: 2."
        ),
    ] = None,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """Show the server on this host, or its node, all models, and lanes that no pool reads.

    Exit code 1 if neither runs. With --json, --watch prints one object a line.
    """
    if interval is not None and not watch:
        note_idle("--interval", "without --watch there is one view")
    views = _views(state_dir, interval or USUAL_INTERVAL_S)
    console = out()
    if as_json:
        for view in views if watch else itertools.islice(views, 1):
            print_json(view.to_dict(), one_line=watch)
    elif not watch:
        console.print(shown(next(views)), soft_wrap=True)
    elif not console.is_terminal:
        for view in views:
            console.print(shown(view), soft_wrap=True)
    else:
        with Live(console=console, auto_refresh=False) as live:
            for view in views:
                live.update(shown(view), refresh=True)


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
    from marq.settings import grpc_addresses

    try:
        server, process = running(state_dir)
    except ServerNotFound:
        if (found := running_node(state_dir)) is None:
            raise
        node, process = found
        uptime_s = round(time.time() - process.create_time(), 1)
        return node.redis_url, NodeStatus(node.pid, uptime_s, node.name, without_password(node.redis_url))
    resolved = server.resolved()
    grpc = (
        {plane.name: plane.target for plane in grpc_addresses.planes(resolved.settings)} if resolved else {}
    )
    return server.redis_url, ServerStatus(
        pid=server.pid,
        uptime_s=round(time.time() - process.create_time(), 1),
        inference_address=server.inference_address,
        management_address=server.management_address,
        redis=without_password(server.redis_url),
        metrics_address=server.metrics_address,
        grpc_inference=grpc.get("inference", ""),
        grpc_management=grpc.get("management", ""),
    )


def _read_all(redis_url: str) -> "tuple[list[ModelStatus], list[UnreadLane], int]":
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
            unread = depth.unread(client, registry.models())
            return list(_read(registry)), unread, registry.live_nodes()
    except redis.RedisError as error:
        raise RedisUnavailable(f"Redis does not answer: {error}") from error


def _read(registry: "Registry") -> Iterator[ModelStatus]:
    from marq.metrics import totals
    from marq.queue import depth

    snapshot = registry.snapshot()
    models = snapshot.models
    depths = depth.read(registry.redis, models)
    done = totals.requests(registry.redis, ((spec.name, spec.version) for spec in models))
    for spec in sorted(models, key=lambda spec: (spec.name, spec.version)):
        is_default = models.defaults.get(spec.name) == spec.version
        status = summarize(spec, is_default, snapshot, depths[spec.key].waiting)
        yield replace(status, requests=max(status.requests, done[spec.name, spec.version]))


def summarize(spec: "ModelSpec", is_default: bool, snapshot: "Snapshot", waiting: int) -> ModelStatus:
    """The line of a model version, from the reports of the pools that are alive: `requests` are theirs."""
    from marq.registry.notices import notices

    replicas, reports, wanted = snapshot.replicas(spec), snapshot.of(spec), snapshot.models.size(spec)
    decision = snapshot.models.decisions.get(spec.key) if spec.is_elastic else None
    ready = sum(replica.is_ready for replica in replicas)
    reason = "" if ready >= wanted else _reason(reports)
    requests = sum(replica.requests for replica in replicas)
    batches = batches_of(spec, replicas)
    return ModelStatus(
        name=spec.name,
        version=spec.version,
        default=is_default,
        state=RESTING if spec.may_rest and not (wanted or ready) else _state(ready, wanted, reason),
        reason=reason,
        replicas_ready=ready,
        replicas_wanted=wanted,
        bounds=[spec.min_workers, spec.max_workers] if spec.is_elastic else None,
        scaled=decision.reason if decision else "",
        devices=sorted({replica.device for replica in replicas}),
        waiting=waiting,
        requests=requests,
        mean_batch_size=round(requests / batches, 2) if batches else None,
        notices=notices(spec, reports, wanted, snapshot.hosts),
    )


def batches_of(spec: "ModelSpec", replicas: "Iterable[ReplicaReport]") -> int:
    """Batches that they have run; none with continuous batching, where a request takes part in many steps."""
    return 0 if spec.continuous_batching else sum(replica.batches for replica in replicas)


def _state(ready: int, wanted: int, reason: str) -> str:
    if reason:
        return FAILING
    if ready >= wanted:
        return READY if ready else STOPPED
    return LOADING


def _reason(reports: "list[PoolReport]") -> str:
    """Why the pool that failed last does."""
    from marq.registry.notices import own_error

    failing = [(report.reported, report.reason) for report in reports if report.failures]
    _, latest = max(failing, default=(0.0, ""))
    return own_error(latest).strip() if latest else ""
