"""`marq top`."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from marq.cli import options
from marq.cli.commands.server.status import batches_of, summarize
from marq.cli.output import note_idle, out, print_json
from marq.cli.status_tables import STYLES

if TYPE_CHECKING:
    from marq.registry.models import Registry

MEDIAN, SLOW = 0.5, 0.99
MOST_CALLERS = 5  # of a version
USUAL_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Reading:
    """The counts of one model version at one moment, since the start of its replicas."""

    state: str
    ready: int
    wanted: int
    waiting: int
    oldest_s: float | None  # the age of the oldest request that has no answer yet
    requests: int
    batches: int
    latencies: dict[float, float] = field(default_factory=dict)  # upper bound in s -> how many
    held: dict[str, int] = field(default_factory=dict)  # jobs by caller
    weights: dict[str, float] = field(default_factory=dict)  # of callers
    quota: int = 0  # of each caller


@dataclass(frozen=True)
class Activity:
    """One line: a reading, and what happened since the one before."""

    name: str
    version: str
    state: str
    replicas_ready: int
    replicas_wanted: int
    waiting: int
    oldest_s: float | None
    requests_per_s: float | None
    mean_batch_size: float | None
    latency_p50_s: float | None
    latency_p99_s: float | None
    held: dict[str, int]  # jobs that wait for their caller's turn, by caller
    weights: dict[str, float]  # of the callers that have one in callerWeights
    quota: int  # unfinished jobs of each caller; 0: there is no limit


def top(
    once: Annotated[
        bool, typer.Option("--once", help="Print one view of everything since the start, and end.")
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option("--interval", metavar="S", min=0.1, help="Seconds between two views. Default: 1."),
    ] = None,
    as_json: options.AsJson = False,
    state_dir: options.StateDir = None,
) -> None:
    """Watch queues, replicas, batches and latencies of all models.

    Rates, batch sizes and latencies are measured between two views. Ctrl-C ends it.
    """
    from marq.cli.running import redis_url

    console = out()
    if interval is not None and (once or as_json or not console.is_terminal):
        note_idle("--interval", "there is one view")
    shown = views(redis_url(state_dir), interval or USUAL_INTERVAL_S)
    if as_json:
        print_json([asdict(line) for line in next(shown)])
    elif once or not console.is_terminal:
        console.print(_table(next(shown)))
    else:
        with Live(console=console, auto_refresh=False) as live, suppress(KeyboardInterrupt):
            for lines in shown:
                live.update(_table(lines), refresh=True)


def views(redis_url: str, interval_s: float) -> Iterator[list[Activity]]:
    """One view after the other; the first is of everything since the start. Raises RedisUnavailable."""
    import redis

    from marq.connections import clients
    from marq.errors import RedisUnavailable
    from marq.registry.models import Registry

    clients.check(redis_url)
    before: dict[tuple[str, str], Reading] = {}
    began = 0.0
    with clients.client(redis_url) as client:
        while True:
            now = time.monotonic()
            try:
                readings = dict(_read(Registry(client)))
            except redis.RedisError as error:
                raise RedisUnavailable(f"Redis does not answer: {error}") from error
            yield [
                compare(name, version, reading, before.get((name, version)), now - began if before else None)
                for (name, version), reading in sorted(readings.items())
            ]
            before, began = readings, now
            time.sleep(interval_s)


def _read(registry: "Registry") -> Iterator[tuple[tuple[str, str], Reading]]:
    """The number of round trips does not depend on the number of models."""
    from marq.queue import depth

    snapshot = registry.snapshot()
    depths = depth.read(registry.redis, snapshot.models)
    held = depth.held(registry.redis, [spec for spec in snapshot.models if spec.caller_tag])
    latencies = _latencies(registry, snapshot.models.specs)
    for spec in snapshot.models:
        replicas = snapshot.replicas(spec)
        queue = depths[spec.key]
        status = summarize(spec, False, snapshot, queue.waiting)
        yield (
            (spec.name, spec.version),
            Reading(
                state=status.state,
                ready=status.replicas_ready,
                wanted=status.replicas_wanted,
                waiting=status.waiting,
                oldest_s=queue.oldest_s,
                requests=status.requests,
                batches=batches_of(spec, replicas),
                latencies=latencies.get((spec.name, spec.version), {}),
                held=held.get(spec.key, {}),
                weights=spec.weights_of_callers,
                quota=spec.caller_quota,
            ),
        )


def _latencies(registry: "Registry", models: Iterable[str]) -> dict[tuple[str, str], dict[float, float]]:
    """The gateways' counts of requests by latency: (model, version) -> upper bound in s -> count."""
    from marq import keys
    from marq.metrics.catalog import REQUEST
    from marq.metrics.measurements import SUM, Series

    names = list(models)
    with registry.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(keys.model_metrics(name))
        stored = pipe.execute()
    found: dict[tuple[str, str], dict[float, float]] = {}
    for name, hash_of_series in zip(names, stored, strict=True):
        for field_name, value in hash_of_series.items():
            series = Series.read(field_name)
            if series.name != REQUEST.name or series.part == SUM:
                continue
            version = dict(zip(series.labels, series.values, strict=True))["version"]
            counts, bound = found.setdefault((name, version), {}), float(series.part)
            counts[bound] = counts.get(bound, 0.0) + float(value)
    return found


def compare(
    name: str, version: str, now: Reading, before: Reading | None, elapsed_s: float | None
) -> Activity:
    """A line of the view. Counts that went down belong to new replicas: they count from zero."""
    earlier = before or Reading("", 0, 0, 0, None, 0, 0)
    requests = now.requests - (earlier.requests if earlier.requests <= now.requests else 0)
    batches = now.batches - (earlier.batches if earlier.batches <= now.batches else 0)
    took = {
        bound: max(0.0, count - earlier.latencies.get(bound, 0.0)) for bound, count in now.latencies.items()
    }
    return Activity(
        name=name,
        version=version,
        state=now.state,
        replicas_ready=now.ready,
        replicas_wanted=now.wanted,
        waiting=now.waiting,
        oldest_s=now.oldest_s,
        requests_per_s=requests / elapsed_s if elapsed_s else None,
        mean_batch_size=requests / batches if batches else None,
        latency_p50_s=quantile(took, MEDIAN),
        latency_p99_s=quantile(took, SLOW),
        held=now.held,
        weights=now.weights,
        quota=now.quota,
    )


def quantile(counts: dict[float, float], share: float) -> float | None:
    """The value below which this share of the counts lies, None without counts; linear within a bucket."""
    rank, lower = share * sum(counts.values()), 0.0
    for bound in sorted(counts):
        count = counts[bound]
        if count and rank <= count:
            return lower if bound == float("inf") else lower + (bound - lower) * rank / count
        rank -= count
        lower = bound
    return None


def _table(lines: list[Activity]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Model", "Version", "State"):
        table.add_column(heading, no_wrap=True, overflow="fold")
    for heading in ("Replicas", "Waiting", "Oldest", "Requests/s", "Mean batch", "p50", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            escape(line.name),
            escape(line.version),
            f"[{STYLES[line.state]}]{line.state}[/]",
            f"{line.replicas_ready}/{line.replicas_wanted}",
            str(line.waiting),
            _duration(line.oldest_s),
            _number(line.requests_per_s),
            _number(line.mean_batch_size),
            _duration(line.latency_p50_s),
            _duration(line.latency_p99_s),
        )
    held = [f"{line.name} {line.version}: {_callers(line)}" for line in lines if line.held]
    if held:
        table.caption, table.caption_justify = escape("\n".join(held)), "left"
    return table


def _callers(line: Activity) -> str:
    """The callers with the most held jobs."""
    first = sorted(line.held.items(), key=lambda each: -each[1])
    named = [
        f"{caller or '(none)'} {number:,}"
        + (f" (weight {line.weights[caller]:g})" if caller in line.weights else "")
        for caller, number in first[:MOST_CALLERS]
    ]
    more = [f"{len(first) - MOST_CALLERS} others"] if len(first) > MOST_CALLERS else []
    quota = f"; quota of each caller: {line.quota:,} unfinished jobs" if line.quota else ""
    return f"jobs that wait for their caller's turn: {', '.join([*named, *more])}{quota}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
