"""The answers of both clients, and the errors of those that are none."""

import json
from dataclasses import dataclass, field
from typing import Any, Self

from marq.errors import MarqError
from marq.queue import job_records
from marq.queue.job_records import JobRecord
from marq.queue.replies.entries import Reply


@dataclass(frozen=True)
class Result:
    """The handler's answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def check(self) -> Self:
        """The result itself. Raises PredictionFailed for a status of 400 and above."""
        if self.status >= 400:
            raise PredictionFailed(self)
        return self


class PredictionFailed(MarqError):
    """Raised when the answer to a request is an error; carries its status, headers and body."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"status {result.status}: {result.body[:500].decode('utf-8', 'replace')}")
        self.result = result


class JobFailed(PredictionFailed):
    """Raised when the answer to a job is an error; carries it as PredictionFailed does."""


class JobExpired(JobFailed):
    """Raised for a job that has not started within its `start_within`."""


class JobCancelled(MarqError):
    """Raised for a job that was cancelled: it has no answer."""


def of_reply(reply: Reply) -> Result:
    return Result(reply.status, reply.body, json.loads(reply.headers or b"{}"))


def of_job(record: JobRecord) -> Result:
    """The answer to a finished job. Raises JobCancelled, JobExpired and JobFailed."""
    if record.state == job_records.CANCELLED:
        raise JobCancelled(f"Job {record.id} was cancelled; it has no result.")
    result = Result(record.status or 0, record.body or b"", record.headers)
    if record.state == job_records.EXPIRED:
        raise JobExpired(result)
    if record.state == job_records.FAILED or result.status >= 400:
        raise JobFailed(result)
    return result
