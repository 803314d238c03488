"""`/metrics`: what all processes have stored, and what the queues look like now."""

import asyncio
import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

import redis

from gateway.asgi import ASGIApp, Receive, Scope, Send, respond, respond_error
from marq import keys
from marq.connections import clients
from marq.errors import QueueUnavailable, ResourceNotFound
from marq.metrics import catalog as names
from marq.metrics.exposition import CONTENT_TYPE, Families
from marq.metrics.measurements import Series
from marq.queue import scripts
from marq.queue.ids import new_id
from marq.registry.models import HEARTBEAT_LIMIT_S, Registry
from marq.registry.spec import ModelSpec

PATH = "/metrics"
LANES_SCRIPT = scripts.load("lanes")
STATES = ("loading", "ready", "draining")


class Scrape:
    """Reads everything that `/metrics` shows."""

    def __init__(self, url: str) -> None:
        self._redis = clients.client(url)
        self._registry = Registry(self._redis)

    def read(self) -> Families:
        """All families as they are now. Raises redis.RedisError."""
        models = self._registry.models()
        specs, found = list(models), models.specs
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        for source in (*self._redis.zrange(keys.METRICS, 0, -1), *map(keys.model_metrics, found)):
            pipe.hgetall(source)
        for spec in specs:
            pipe.hgetall(keys.pools(spec.name, spec.version))
            streams = (*keys.lanes(spec.name, spec.version), keys.dead_letters(spec.name))
            pipe.eval(LANES_SCRIPT.text, len(streams), *streams, keys.GROUP)
        (seconds, microseconds), *rest = pipe.execute()
        families = Families()
        stored, live = rest[: len(rest) - 2 * len(specs)], rest[len(rest) - 2 * len(specs) :]
        for hash_of_series in stored:
            for series, value in hash_of_series.items():
                families.add(Series.read(series), value)
        now = seconds + microseconds / 1e6
        for spec, reports, streams in zip(specs, live[::2], live[1::2], strict=True):
            _add_replicas(families, spec, reports.values(), now)
            _add_streams(families, spec, streams, first=spec is next(iter(found[spec.name].values())))
        return families


def _add_replicas(families: Families, spec: ModelSpec, reports: Any, now: float) -> None:
    live = [report for report in map(json.loads, reports) if report["reported"] >= now - HEARTBEAT_LIMIT_S]
    states = Counter(replica["state"] for report in live for replica in report["replicas"])
    for state in dict.fromkeys((*STATES, *states)):
        families.put(names.REPLICAS, (spec.name, spec.version, state), states[state])
    families.put(names.REPLICA_RESTARTS, (spec.name, spec.version), 0)  # there before the first one


def _add_streams(families: Families, spec: ModelSpec, streams: Any, first: bool) -> None:
    """`first`: of the model's versions, which share the dead letters."""
    lanes, redeliveries, dead, dead_ever = streams
    for lane, (waiting, age_ms) in zip((keys.FRONT, *keys.LANES), lanes, strict=True):
        families.put(names.QUEUE_DEPTH, (spec.name, spec.version, lane), waiting)
        families.put(names.QUEUE_OLDEST_AGE, (spec.name, spec.version, lane), age_ms / 1000)
    if redeliveries >= 0:
        families.put(names.REDELIVERIES, (spec.name, spec.version), redeliveries)
    if first:
        families.put(names.DEAD_LETTERS, (spec.name,), dead)
        if dead_ever >= 0:
            families.put(names.DEAD_LETTERS_TOTAL, (spec.name,), dead_ever)


class MetricsEndpoint:
    """The application of the metrics address: `/metrics` and whatever is below it, with any method."""

    def __init__(self, url: str) -> None:
        self._scrape = Scrape(url)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        request_id = new_id()
        if not is_metrics(scope):
            await respond_error(send, ResourceNotFound(), request_id)
            return
        wanted = frozenset(parse_qs(scope["query_string"].decode("latin-1")).get("name[]", ()))
        try:
            families = await asyncio.to_thread(self._scrape.read)
        except redis.RedisError as error:
            failure = QueueUnavailable(f"Redis does not answer as it should: {error}")
            await respond_error(send, failure, request_id)
            return
        text = await asyncio.to_thread(families.text, wanted)
        await respond(send, 200, text.encode(), [(b"content-type", CONTENT_TYPE)], request_id)


class WithMetrics:
    """An application on an address that serves `/metrics`, too."""

    def __init__(self, app: ASGIApp, endpoint: ASGIApp) -> None:
        self._app, self._endpoint = app, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._endpoint if scope["type"] == "http" and is_metrics(scope) else self._app
        await app(scope, receive, send)


def is_metrics(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == PATH or path.startswith(f"{PATH}/")
