"""Tasks become jobs: their priorities, times and options as fields of the entry."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from thread_replica import make_spec

from bridge.messages import Refused, Task
from bridge.predictions import Prediction, prepare, submissions
from marq.registry.snapshot import Models


@pytest.fixture
def models() -> Models:
    spec = make_spec("digits")
    return Models({"digits": {spec.version: spec}}, {"digits": spec.version})


def task(*args: Any, eta: Any = None, expires: Any = None, priority: Any = None, **kwargs: Any) -> Task:
    return Task("t1", "marq.predict", list(args), kwargs, eta, expires, priority, {"id": "t1"})


def entry(job: Prediction) -> dict[bytes, bytes]:
    """The entry's fields."""
    fields = job.fields.flat()
    return dict(zip(fields[::2], fields[1::2], strict=True))


@pytest.mark.parametrize(
    ("priority", "of_redis", "of_rabbitmq"),
    [(None, "normal", "normal"), (0, "normal", "low"), (2, "normal", "low"), (3, "low", "low"),
     (5, "low", "normal"), (7, "low", "high"), (9, "low", "high")],
)  # fmt: skip
def test_priorities_are_lanes(models: Models, priority: int | None, of_redis: str, of_rabbitmq: str) -> None:
    for is_redis, lane in ((True, of_redis), (False, of_rabbitmq)):
        job = prepare(task("digits", 1, priority=priority), models, is_redis)
        assert (job.model, job.version, job.lane) == ("digits", "1.0", lane)


def test_the_keyword_priority_wins(models: Models) -> None:
    asked = Task("t1", "marq.predict", ["digits", 1], {"priority": "high"}, None, None, 9, {"id": "t1"})
    assert prepare(asked, models, True).lane == "high"


def test_times_are_unix_milliseconds(models: Models) -> None:
    eta, expires = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
    job = prepare(task("digits", 1, eta=eta.isoformat(), expires=expires.isoformat()), models, True)
    fields = entry(job)
    assert int(fields[b"not_before"]) == round(eta.timestamp() * 1000)
    assert int(fields[b"deadline"]) == round(expires.timestamp() * 1000)


def test_a_task_that_has_expired_is_revoked(models: Models) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    with pytest.raises(Refused, match="expired"):
        prepare(task("digits", 1, expires=past), models, True)


@pytest.mark.parametrize("times", [{"eta": "soon"}, {"expires": 5}, {"eta": "9999-12-31T00:00:00"}])
def test_times_that_are_none_are_refused(models: Models, times: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="must be a time"):
        prepare(task("digits", 1, **times), models, True)


def test_bodies_are_bytes_text_or_json(models: Models) -> None:
    kinds = {b"\xff": (b"\xff", None), "ü": ("ü".encode(), b"text/plain"), 5: (b"5", b"application/json")}
    for body, (sent, kind) in kinds.items():
        fields = entry(prepare(task("digits", body), models, True))
        assert (fields[b"body"], fields.get(b"type")) == (sent, kind)


def test_jobs_of_one_kind_are_submitted_by_one_call(models: Models) -> None:
    jobs = [
        prepare(Task(f"t{n}", "marq.predict", ["digits", n], {}, None, None, n % 4, {}), models, True)
        for n in range(100)
    ]
    calls = submissions(jobs)
    assert len(calls) == 2  # normal and low
    assert sorted(name for _, ids in calls for name in ids) == sorted(job.task.id for job in jobs)
