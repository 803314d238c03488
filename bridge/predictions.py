"""Tasks `marq.predict` as jobs."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from celery.exceptions import NotRegistered, TaskRevokedError

from bridge.known_models import KnownModels
from bridge.messages import Refused, Task
from bridge.outcomes import FORMS
from marq import keys
from marq.client.requests import encode
from marq.connections.urls import Command
from marq.jobs.options import JobOptions
from marq.jobs.submission import Row, submit_command, with_one_head
from marq.queue import scripts
from marq.queue.entries import EntryFields

PREDICT = "marq.predict"
JOB_OPTIONS = ("tags", "result_ttl", "max_attempts", "retries", "retry_on", "retry_delay")
OPTIONS = ("model", "body", "version", "content_type", "path", "explain", "priority", "returns", *JOB_OPTIONS)


@dataclass(frozen=True)
class Prediction:
    """A job that is ready to be submitted, and its task."""

    task: Task
    context: bytes  # the task's request as JSON
    model: str
    version: str
    lane: str
    fields: EntryFields


def prepare(task: Task, models: KnownModels, is_redis: bool) -> Prediction:
    """The job of a task; its id is the task's. `is_redis`: of the broker: its priorities are reversed.

    Raises Refused.
    """
    try:
        return _prepare(task, models, is_redis)
    except redis.RedisError:
        raise
    except Exception as error:  # one task must not hold up the others, whatever is in it
        raise Refused(error, task.request) from None


def submissions(ready: Iterable[Prediction]) -> list[tuple[Command, list[str]]]:
    """The commands that submit jobs, each with the ids of its jobs, in the order of its reply."""
    rows: dict[tuple[str, str, str], list[Row]] = {}
    for job in ready:
        rows.setdefault((job.model, job.version, job.lane), []).append((job.task.id.encode(), job.fields))
    calls: list[tuple[Command, list[str]]] = []
    for (model, version, lane), of_lane in rows.items():
        for of_call in with_one_head(of_lane):
            script_keys, arguments = submit_command(model, version, lane, of_call)
            ids = [request_id.decode() for request_id, _ in of_call]
            calls.append((scripts.SUBMIT.call(script_keys, *arguments), ids))
    return calls


def _prepare(task: Task, models: KnownModels, is_redis: bool) -> Prediction:
    if task.name != PREDICT:
        raise NotRegistered(task.name)
    options = dict(task.kwargs)
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise TypeError(f"{PREDICT} has no argument {unknown[0]!r:.100}; it has {', '.join(OPTIONS)}")
    model, body = _model_and_body(task.args, options)
    spec = models.get(model, _text(options, "version"))
    deadline = _unix_ms(task.expires, "expires")
    if deadline is not None and deadline <= time.time() * 1000:
        raise TaskRevokedError("expired")
    returns = options.get("returns") or "auto"
    if returns not in FORMS:
        raise ValueError(f"returns must be one of {', '.join(FORMS)}, not {returns!r:.100}")
    not_before = _unix_ms(task.eta, "eta")
    asked = JobOptions(
        priority=_text(options, "priority") or _lane(task.priority, is_redis),
        not_before=None if not_before is None else not_before / 1000,
        **{name: options[name] for name in JOB_OPTIONS if options.get(name) is not None},
    )
    fields = encode(
        body,
        _text(options, "content_type"),
        b"" if deadline is None else b"%d" % deadline,
        asked,
        _text(options, "path"),
        bool(options.get("explain")),
    )
    task.request.update(model=spec.name, returns=returns)
    context = json.dumps(task.request).encode()
    return Prediction(task, context, spec.name, spec.version, asked.priority, fields)


def _model_and_body(args: list[Any], options: dict[str, Any]) -> tuple[str, Any]:
    """Positional arguments are the model, unless it is a keyword, and the body. So in a chain, which puts the
    result of the task before it in front, the model is a keyword."""
    names = [name for name in ("model", "body") if name not in options]
    if len(args) != len(names):
        raise TypeError(
            f"{PREDICT} takes a model and a body, as arguments or keywords: "
            f"{len(args)} arguments for {', '.join(names) or 'none'}"
        )
    found = {**options, **dict(zip(names, args, strict=True))}
    if not isinstance(found["model"], str):
        raise TypeError(f"model must be a text, not {type(found['model']).__name__}")
    return found["model"], found["body"]


def _text(options: dict[str, Any], name: str) -> str | None:
    value = options.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {type(value).__name__}")
    return value


def _unix_ms(moment: str | None, name: str) -> int | None:
    if moment is None:
        return None
    try:
        parsed = datetime.fromisoformat(moment)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a time as ISO 8601, not {moment!r:.100}") from None
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def _lane(priority: int | None, is_redis: bool) -> str:
    """With Redis 0 comes first and is the default; with RabbitMQ 9 comes first."""
    if not isinstance(priority, int):  # messages may hold anything
        return keys.NORMAL
    if is_redis:
        return keys.NORMAL if priority < 3 else keys.LOW
    return keys.LOW if priority < 4 else keys.NORMAL if priority < 7 else keys.HIGH
