"""Turns the counts of a gateway process into metrics, and stores them once a second."""

import asyncio
import logging
import time

import hiredis

from gateway.inference.predictor import CLIENT_GONE
from gateway.metrics.counting import PREDICTION, Answers, RequestMeter, What
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq import keys
from marq.errors import ServiceError
from marq.metrics import config
from marq.metrics.catalog import QUEUE_WAIT, REDIS_ROUND_TRIP, REQUEST, REQUESTS
from marq.metrics.measurements import FLUSH_EVERY_S, SUM, Measurements, bounds, encode
from marq.metrics.torchserve_logs import ServerMetrics
from marq.queue.broker import Broker
from marq.settings.fields import Settings

log = logging.getLogger(__name__)

NO_ROUTE = ("", "")
CLASSES = {
    2: "Requests2XX",
    4: "Requests4XX",
}  # first digit of the status; all others are 5XX, as in TorchServe
QueueWaits = dict[tuple[str, str], tuple[float, float]]  # (model, version) -> seconds, rows


class Measuring:
    """Stores the counts of a RequestMeter. While Redis is away they are kept."""

    def __init__(self, settings: Settings, meter: RequestMeter, routes: Routes, broker: Broker) -> None:
        self._meter, self._routes, self._broker = meter, routes, broker
        self._measurements = Measurements()
        self._server = ServerMetrics(
            config.read(settings.metrics_config).ts,
            settings.metrics_mode,
            settings.metrics_log_dir,
            self._measurements,
        )
        self._are_refused = False  # by Redis, the last time
        self._queue_waits: QueueWaits = {}  # as they were the last time
        self._unpaired: dict[tuple[Route, str], int] = {}  # predictions whose queue wait is not known yet

    async def follow(self) -> None:
        """Stores once a second; never returns."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await self.flush()
            except (ServiceError, ConnectionError, hiredis.ReplyError) as error:
                log.debug("metrics are stored later: %s", error)
            except Exception:
                log.exception("metrics cannot be stored")

    async def flush(self) -> None:
        """Stores the new counts. Raises ServiceError, ConnectionError or hiredis.ReplyError."""
        for what, answers in self._meter.take():
            self._add(what, answers)
        try:
            await self._measure_round_trip()
            await self._pair_queue_waits()
        finally:
            self._server.write()
            await self._store()

    async def _store(self) -> None:
        taken = self._measurements.take()
        try:
            futures = [self._broker.execute(*command) for command in self._measurements.commands(taken)]
            results = await asyncio.gather(*futures, return_exceptions=True)
            if not results:
                return
            self._complain([result for result in results if isinstance(result, Exception)])
        except (ServiceError, ConnectionError):
            self._measurements.put_back(taken)
            raise

    def _complain(self, refusals: list[Exception]) -> None:
        """Logs the first refusal, unless the last attempt was refused, too. Raises ConnectionError."""
        for refusal in refusals:
            if isinstance(refusal, ConnectionError):
                raise refusal
        if refusals and not self._are_refused:
            log.error("metrics cannot be stored: %s", refusals[0])
        self._are_refused = bool(refusals)

    async def _measure_round_trip(self) -> None:
        began = time.monotonic()
        await self._broker.execute("PING")
        self._measurements.observe(REDIS_ROUND_TRIP, ("gateway",), time.monotonic() - began)

    def _add(self, what: What, answers: Answers) -> None:
        count = sum(answers.counts)
        if what.status != CLIENT_GONE:
            self._server.add(CLASSES.get(what.status // 100, "Requests5XX"), count, "Host")
        route = what.route if what.route and self._is_registered(what.route) else None
        if what.route and not route:
            return  # its counters are gone, and must not come back
        name, version = (route.spec.name, route.spec.version) if route else NO_ROUTE
        labels = name, version, what.kind
        self._measurements.increment(REQUESTS, (*labels, str(what.status)), count, model=name)
        self._measurements.merge(REQUEST, labels, answers.counts, answers.seconds, model=name)
        if route and what.kind == PREDICTION:
            self._add_predictions(route, what.status, count, answers.seconds)

    def _add_predictions(self, route: Route, status: int, count: int, seconds: float) -> None:
        name, version = route.spec.name, route.spec.version
        shown = version if route.versioned else "default"
        self._server.add("ts_inference_requests_total", count, name, shown, model=name)
        if status // 100 == 2:
            self._server.add("ts_inference_latency_microseconds", seconds * 1e6, name, shown, model=name)
            key = route, shown
            self._unpaired[key] = self._unpaired.get(key, 0) + count

    def _is_registered(self, route: Route) -> bool:
        try:
            self._routes.find(route.spec.name, route.spec.version)
        except ServiceError:
            return False
        return True

    async def _pair_queue_waits(self) -> None:
        """Adds the time in the queue of this process's predictions to `ts_queue_latency_microseconds`.

        Replicas know that, but not by which URL a request came. So each prediction counts with the mean of
        those of its model version that were taken lately; sums are right, single requests are not.
        """
        specs = {(route.spec.name, route.spec.version) for route, _ in self._unpaired}
        now = {key: await self._waits_of(*key) for key in specs}
        unpaired, self._unpaired = self._unpaired, {}
        for (route, shown), count in unpaired.items():
            key = name, _ = route.spec.name, route.spec.version
            before = self._queue_waits.get(key, (0.0, 0.0))
            seconds, rows = (new - old for new, old in zip(now[key], before, strict=True))
            if rows > 0:
                microseconds = max(0.0, seconds) / rows * count * 1e6
                self._server.add("ts_queue_latency_microseconds", microseconds, name, shown, model=name)
            elif self._is_registered(route):  # the replicas have not reported yet
                self._unpaired[route, shown] = count
        self._queue_waits.update(now)

    async def _waits_of(self, name: str, version: str) -> tuple[float, float]:
        labels = name, version, PREDICTION
        parts = (SUM, *bounds(QUEUE_WAIT.buckets))
        fields = [encode(QUEUE_WAIT, labels, part) for part in parts]
        found: list[bytes | None] = await self._broker.execute("HMGET", keys.model_metrics(name), *fields)
        seconds, *counts = (float(value or 0) for value in found)
        return seconds, sum(counts)
