"""`/metrics`: the metrics that all processes have stored, and the queues and replicas as they are now."""

from collections import Counter
from functools import partial
from urllib.parse import parse_qs

import anyio
import anyio.to_thread
import redis
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.asgi import respond, respond_error
from marq import keys
from marq.connections import clients
from marq.errors import QueueUnavailable, ResourceNotFound
from marq.metrics import catalog as names
from marq.metrics.exposition import CONTENT_TYPE, Families
from marq.metrics.measurements import Series
from marq.queue import depth
from marq.queue.depth import Depth, Total
from marq.queue.ids import new_id
from marq.registry.models import Registry
from marq.registry.snapshot import Snapshot
from marq.registry.spec import ModelSpec

PATH = "/metrics"
SCRAPES = 4  # at the same time
STATES = ("loading", "ready", "draining")


class Scrape:
    """Reads everything that `/metrics` shows."""

    def __init__(self, url: str) -> None:
        self._redis = clients.client(url)
        self._registry = Registry(self._redis)

    def read(self) -> Families:
        """All families as they are now. Raises redis.RedisError.

        The number of round trips does not depend on the number of models.
        """
        snapshot, families = self._registry.snapshot(), Families()
        self._add_stored(families, snapshot)
        specs, models = list(snapshot.models), list(snapshot.models.specs)
        depths = depth.read(self._redis, specs)
        fronts = [keys.lane(spec.name, spec.version, keys.FRONT) for spec in specs]
        totals = depth.totals(self._redis, [*fronts, *map(keys.dead_letters, models)])
        for spec, front in zip(specs, totals[: len(specs)], strict=True):
            _add_replicas(families, spec, snapshot)
            _add_queue(families, spec, depths[spec.key], front)
        for name, letters in zip(models, totals[len(specs) :], strict=True):
            _add_dead_letters(families, name, letters)
        return families

    def _add_stored(self, families: Families, snapshot: Snapshot) -> None:
        sources: list[str | bytes] = [
            *self._redis.zrange(keys.METRICS, 0, -1),
            *map(keys.model_metrics, snapshot.models.specs),
        ]
        with self._redis.pipeline(transaction=False) as pipe:
            for source in sources:
                pipe.hgetall(source)
            for stored in pipe.execute():
                for series, value in stored.items():
                    families.add(Series.read(series), value)


def _add_replicas(families: Families, spec: ModelSpec, snapshot: Snapshot) -> None:
    states = Counter(replica.state for replica in snapshot.replicas(spec))
    for state in dict.fromkeys((*STATES, *states)):
        families.put(names.REPLICAS, (spec.name, spec.version, state), states[state])
    families.put(names.REPLICAS_WANTED, (spec.name, spec.version), snapshot.models.size(spec))
    families.put(names.REPLICA_RESTARTS, (spec.name, spec.version), 0)  # there before the first one


def _add_queue(families: Families, spec: ModelSpec, queue: Depth, front: Total) -> None:
    """`front`: the entries that were put back, each of which counts as one redelivery."""
    for lane, found in queue.lanes.items():
        families.put(names.QUEUE_DEPTH, (spec.name, spec.version, lane), found.waiting)
        families.put(names.QUEUE_OLDEST_AGE, (spec.name, spec.version, lane), found.waiting_s or 0.0)
    if front.ever is not None:
        families.put(names.REDELIVERIES, (spec.name, spec.version), front.ever)


def _add_dead_letters(families: Families, model: str, letters: Total) -> None:
    families.put(names.DEAD_LETTERS, (model,), letters.entries)
    if letters.ever is not None:
        families.put(names.DEAD_LETTERS_TOTAL, (model,), letters.ever)


class MetricsEndpoint:
    """The application of the metrics address: `/metrics` and all paths below it, with any method."""

    def __init__(self, url: str) -> None:
        self._scrape = Scrape(url)
        self._run = partial(anyio.to_thread.run_sync, limiter=anyio.CapacityLimiter(SCRAPES))

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        request_id = new_id()
        if not is_metrics(scope):
            await respond_error(send, ResourceNotFound(), request_id)
            return
        wanted = frozenset(parse_qs(scope["query_string"].decode("latin-1")).get("name[]", ()))
        try:
            families = await self._run(self._scrape.read)
        except redis.RedisError as error:
            failure = QueueUnavailable(f"Redis does not answer as it should: {error}")
            await respond_error(send, failure, request_id)
            return
        text = await self._run(families.text, wanted)
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
