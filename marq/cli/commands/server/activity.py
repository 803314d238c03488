"""What happens in the queues and replicas of all model versions, view by view."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from marq.cli.commands.server.status import batches_of, summarize

if TYPE_CHECKING:
    from marq.registry.models import Registry

MEDIAN, SLOW = 0.5, 0.99


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
