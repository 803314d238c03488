"""Finished jobs in Celery's words: state and result."""

import json
from dataclasses import dataclass
from typing import Any

from celery import states
from celery.exceptions import TaskRevokedError

from marq.queue import job_records
from marq.queue.job_records import JobRecord

FORMS = ("auto", "json", "text", "bytes")
LONGEST_TEXT = 10_000  # characters of an error


class PredictionFailed(Exception):
    """The error of a task whose job has failed; clients without marq get a class of this name."""


class ResultLost(Exception):
    """The error of a task whose job's record had expired before the bridge could read it."""


@dataclass(frozen=True)
class Outcome:
    """The end of one task; a result that is not a success is an exception."""

    state: str
    result: Any


def of_error(error: Exception) -> Outcome:
    """The outcome of a task that has not become a job."""
    return Outcome(states.REVOKED if isinstance(error, TaskRevokedError) else states.FAILURE, error)


def of_job(record: JobRecord, form: str) -> Outcome:
    """The outcome of a finished job; `form`: the form of the task's result."""
    if record.state == job_records.CANCELLED:
        return Outcome(states.REVOKED, TaskRevokedError("revoked"))
    if record.state == job_records.EXPIRED:
        return Outcome(states.REVOKED, TaskRevokedError("expired"))
    body, status = record.body or b"", record.status or 0
    if record.state == job_records.FAILED or status >= 400:
        return of_error(PredictionFailed(f"{status}: {_message(body)}"))
    kind = next((value for name, value in record.headers.items() if name.lower() == "content-type"), "")
    try:
        return Outcome(states.SUCCESS, _value(body, kind.lower(), form))
    except ValueError as error:
        return of_error(PredictionFailed(f"{status}: the answer is not {form}: {error}"))


def _value(body: bytes, kind: str, form: str) -> Any:
    """The body as JSON, text or bytes. Raises ValueError if it is not of the form that was asked for."""
    if form == "json":
        return json.loads(body)
    if form == "text":
        return body.decode()
    if form == "bytes" or (kind and "json" not in kind and not kind.startswith("text/")):
        return body
    try:
        text = body.decode()
        return text if kind.startswith("text/") else _json_or_text(text)
    except ValueError:
        return body


def _json_or_text(text: str) -> Any:
    """Handlers' values have no content type: a dictionary is JSON, a text is a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _message(body: bytes) -> str:
    """The text of an error."""
    try:
        parsed = json.loads(body)
        text = parsed["message"] if isinstance(parsed, dict) else body.decode()
    except (ValueError, KeyError, RecursionError):
        text = body.decode(errors="replace")
    return str(text)[:LONGEST_TEXT]
