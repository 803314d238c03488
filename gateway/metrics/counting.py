"""Counts the answers of a gateway process: predictions on the fast path, all others in an ASGI middleware.

Counting is a dictionary look-up and a few additions; names, labels and Redis come into play once a second
(`gateway.metrics.storing`).
"""

from bisect import bisect_left
from typing import NamedTuple

from starlette.types import Scope

from gateway.asgi import Report
from gateway.inference import urls
from gateway.inference.predictor import CLIENT_GONE
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq.errors import ServiceError
from marq.metrics.catalog import REQUEST

PREDICTION, JOB, JOB_STATUS, MANAGEMENT, OTHER = "prediction", "job", "job_status", "management", "other"
BUCKETS = REQUEST.buckets


class Answers:
    """The number of answers, and their durations."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class What(NamedTuple):
    """The labels of a count; `route` is None if the request was for no registered model."""

    route: Route | None
    status: int
    kind: str


class RequestMeter:
    """Counts the answers of one process until `take`."""

    def __init__(self) -> None:
        self._hot: dict[tuple[Route | None, int], Answers] = {}
        self._others: dict[What, Answers] = {}

    def answered(self, route: Route | None, status: int, seconds: float) -> None:
        """Counts one prediction, or with None one run of a workflow. On the hot path: no calls but one."""
        key = (route, status)
        try:
            answers = self._hot[key]
        except KeyError:
            answers = self._hot[key] = Answers()
        answers.seconds += seconds
        answers.counts[bisect_left(BUCKETS, seconds)] += 1

    def count(self, kind: str, route: Route | None, status: int, seconds: float) -> None:
        """Counts one request of any kind."""
        answers = self._others.setdefault(What(route, status, kind), Answers())
        answers.seconds += seconds
        answers.counts[bisect_left(BUCKETS, seconds)] += 1

    def take(self) -> list[tuple[What, Answers]]:
        """The counts since the last call; they start again at 0."""
        hot, self._hot = self._hot, {}
        others, self._others = self._others, {}
        known = ((What(*key, PREDICTION if key[0] else OTHER), answers) for key, answers in hot.items())
        return [*known, *others.items()]


class Metering:
    """Counts the answers of applications."""

    def __init__(self, meter: RequestMeter, routes: Routes) -> None:
        self._meter, self._routes = meter, routes

    def watch(self, scope: Scope) -> Report:
        """For `Watched`. The model is looked up before the answer: it may be gone afterwards."""
        kind, route = self._meaning(scope)
        return lambda status, seconds: self._meter.count(kind, route, status or CLIENT_GONE, seconds)

    def _meaning(self, scope: Scope) -> tuple[str, Route | None]:
        """The kind of a request, and the model that it is for."""
        segments = urls.segments_of(scope)
        match scope["method"], *segments:
            case "OPTIONS", *_:
                return OTHER, None
            case "POST", "jobs", model, *rest:
                return JOB, self._route(model, rest[0] if rest else None)
            case _, "jobs", *_:
                return JOB_STATUS, None
        if target := urls.parse(segments):
            return PREDICTION, self._route(target.model, target.version)
        return (MANAGEMENT if segments[:1] == ["models"] else OTHER), None

    def _route(self, model: str, version: str | None) -> Route | None:
        """None for an unknown model: clients could make up labels without end."""
        try:
            return self._routes.find(model, version)
        except ServiceError:
            return None
