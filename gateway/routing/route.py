"""The lane of one model version, and why a request for it is refused."""

import copy
from dataclasses import dataclass

from gateway.routing.queue_limits import Backlog
from marq import keys
from marq.admission.choosing import admission_of
from marq.errors import ModelVersionNotFound, ServiceUnavailable
from marq.registry.spec import ModelSpec

NO_WORKER = (
    '{subject} has no worker to serve inference request. Please use scale workers API to add workers. '
    "If this is a sequence inference, please check if it is closed, or expired; "
    "or exceeds maxSequenceJobQueueSize"
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """Why a model version cannot be loaded. Predictions are refused; attempts go on."""

    reason: str
    is_final: bool  # jobs are refused, too: it has been failing for longer than `maxRetryTimeoutInSec`


class Route:
    """The lane of one model version, and the reasons to refuse requests for it."""

    __slots__ = (
        "admission",
        "backlog",
        "client_timeout_ms",
        "failure",
        "has_ended",
        "is_plain",
        "keeps_files",
        "lane",
        "priority",
        "shares_files",
        "spec",
        "unavailable",
        "versioned",
    )  # fmt: skip

    def __init__(
        self, spec: ModelSpec, versioned: bool, backlog: Backlog, failure: Failure | None,
        shares_files: bool = False, keeps_files: bool = False,
    ) -> None:  # fmt: skip
        self.shares_files = shares_files  # whether all its replicas can read this gateway's files
        self.keeps_files = keeps_files  # the same of the files of jobs
        self.spec, self.backlog, self.failure = spec, backlog, failure
        self.versioned = versioned  # whether the URL names the version
        self.priority, self.lane = keys.NORMAL, keys.lane(spec.name, spec.version).encode()
        self.client_timeout_ms = spec.client_timeout_ms
        self.admission = admission_of(spec)  # the script that queues its requests, if one does
        self.is_plain = not self.client_timeout_ms and self.admission is None  # for the fast path
        subject = f'Model "{spec.name}" Version {spec.version}"' if versioned else f'Model "{spec.name}"'
        reason = failure.reason if failure else ""
        self.unavailable = reason if spec.min_workers or spec.may_rest else NO_WORKER.format(subject=subject)
        self.has_ended = False

    def end(self) -> None:
        """The version is unregistered: refuses requests whose bodies were still arriving."""
        self.has_ended = True
        self.unavailable = f"Model version: {self.spec.version} does not exist for model: {self.spec.name}"

    def at(self, priority: str) -> "Route":
        """The route to the lane of another priority of the same model version."""
        if priority == self.priority:
            return self
        other = copy.copy(self)
        other.priority, other.lane = priority, keys.lane(self.spec.name, self.spec.version, priority).encode()
        return other

    def admit_job(self, size: int) -> None:
        """Counts a job. Raises ServiceUnavailable or ModelVersionNotFound where it cannot be taken.

        A model without replicas takes jobs, which wait for one. A model that has been failing for longer than
        `maxRetryTimeoutInSec` takes none.
        """
        if self.has_ended:
            raise ModelVersionNotFound(self.unavailable)
        if self.failure and self.failure.is_final:
            raise ServiceUnavailable(self.failure.reason)
        self.backlog.admit_job(size)

    def check(self) -> None:
        """Raises ServiceUnavailable or ModelVersionNotFound if nothing would ever take the request."""
        if self.unavailable:
            raise (ModelVersionNotFound if self.has_ended else ServiceUnavailable)(self.unavailable)
