"""Hooks see each prediction twice: before it is queued, and when it has its answer or has failed."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Protocol

from gateway.auth.tokens import Tokens
from gateway.inference.predictor import CLIENT_GONE, USUAL_URLS, Predictor, RunEnd
from gateway.inference.sequence_headers import USUAL, SequenceHeaders
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq.errors import ServiceError
from marq.jobs.jobs import Jobs
from marq.jobs.url_rules import UrlRules
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.replies.entries import Reply
from marq.queue.replies.pending import Waiting

PREDICTION, JOB, WORKFLOW = "prediction", "job", "workflow"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended. `status` 499: the client went away; 202: a job that was queued."""

    kind: str  # PREDICTION, JOB or WORKFLOW
    status: int
    seconds: float
    answer_bytes: int
    workflow: str = ""  # of a run, whose route is that of its start node


class Hook(Protocol):
    """Sees each prediction."""

    def before(self, route: Route, fields: EntryFields) -> None:
        """Called before a prediction is queued. Raises ServiceError to refuse it."""

    def after(self, route: Route, fields: EntryFields, end: End) -> None:
        """Called once for each prediction whose `before` has returned. Exceptions are logged only."""


class ObservedPredictor(Predictor):
    """A Predictor with hooks. The first hook sees a prediction first, and its end last."""

    def __init__(
        self, routes: Routes, broker: Broker, jobs: Jobs, tokens: Tokens, max_request_size: int,
        hooks: Sequence[Hook], max_buffered_bytes: int = 2**30, sequences: SequenceHeaders = USUAL,
        url_rules: UrlRules = USUAL_URLS,
    ) -> None:  # fmt: skip
        super().__init__(
            routes, broker, jobs, tokens, max_request_size, max_buffered_bytes, sequences, url_rules
        )
        self._hooks = hooks
        self._observed: dict[bytes, Observation] = {}  # of the predictions in flight, by request id

    def begin(self, route: Route, request_id: bytes, fields: EntryFields, sink: Waiting) -> None:
        observation = Observation(self._hooks, route, fields)
        observation.before()
        self._observed[request_id] = observation
        try:
            super().begin(route, request_id, fields, ObservedSink(sink, partial(self._end, request_id)))
        except Exception as error:
            self._end(request_id, _status(error))
            raise

    async def submit(self, route: Route, fields: EntryFields, key: str = "") -> str:
        """The end that hooks see is that it was queued, or refused; `JobEnds` passes on its own."""
        observation, status = Observation(self._hooks, route, fields, JOB), CLIENT_GONE
        observation.before()
        try:
            job_id = await super().submit(route, fields, key)
            status = HTTPStatus.ACCEPTED
        except Exception as error:
            status = _status(error)
            raise
        finally:
            observation.after(status)
        return job_id

    def begin_run(self, workflow: str, route: Route, fields: EntryFields, is_job: bool = False) -> RunEnd:
        observation = Observation(self._hooks, route, fields, JOB if is_job else WORKFLOW, workflow)
        observation.before()
        return observation.after

    def cancel(self, request_id: bytes, status: int = CLIENT_GONE) -> None:
        super().cancel(request_id, status)
        self._end(request_id, status)

    def _end(self, request_id: bytes, status: int, answer_bytes: int = 0) -> None:
        if observation := self._observed.pop(request_id, None):
            observation.after(status, answer_bytes)


class Observation:
    """One prediction as its hooks see it."""

    def __init__(
        self, hooks: Sequence[Hook], route: Route, fields: EntryFields, kind: str = PREDICTION,
        workflow: str = "",
    ) -> None:  # fmt: skip
        self._hooks, self._route, self._fields = hooks, route, fields
        self._kind, self._workflow = kind, workflow
        self._entered: list[Hook] = []  # the hooks whose `after` is due
        self._began = time.monotonic()

    def before(self) -> None:
        """Raises ServiceError where a hook refuses; the hooks before it see that, too."""
        for hook in self._hooks:
            try:
                hook.before(self._route, self._fields)
            except Exception as error:
                self.after(_status(error))
                if isinstance(error, ServiceError):
                    raise
                log.exception("a hook failed before a prediction for %s", self._route.spec.key)
                raise ServiceError("Internal server error.") from error
            self._entered.append(hook)

    def after(self, status: int, answer_bytes: int = 0) -> None:
        end = End(self._kind, status, time.monotonic() - self._began, answer_bytes, self._workflow)
        while self._entered:
            try:
                self._entered.pop().after(self._route, self._fields, end)
            except Exception:
                log.exception("a hook failed after a prediction for %s", self._route.spec.key)


class ObservedSink:
    """A sink whose last reply or error is reported by its status, with the size of the whole answer."""

    lane = entry = b""

    def __init__(self, sink: Waiting, on_end: Callable[[int, int], None]) -> None:
        self._sink, self._on_end = sink, on_end
        self._bytes = 0
        self._status = 0  # of the first part, which is the one that the client has seen

    def done(self) -> bool:
        """False: the end is reported even if the sink itself takes nothing more."""
        return False

    def set_part(self, part: Reply, /) -> None:
        self._status = self._status or part.status
        self._bytes += len(part.body)
        if not self._sink.done():
            self._sink.set_part(part)

    def set_result(self, reply: Reply, /) -> None:
        if not self._sink.done():
            self._sink.set_result(reply)
        self._on_end(self._status or reply.status, self._bytes + len(reply.body))

    def set_exception(self, error: Exception, /) -> None:
        if not self._sink.done():
            self._sink.set_exception(error)
        self._on_end(_status(error), self._bytes)


def _status(error: Exception) -> int:
    return error.status if isinstance(error, ServiceError) else ServiceError.status
