"""How long those who are refused are told to wait."""

import pytest

from gateway.routing.queue_limits import Backlog, DrainRate, Room
from marq.errors import QueueFull, TooManyJobs
from marq.registry.spec import ModelSpec

EVERY_S = 0.2


def backlog(limit: int = 100, job_limit: int = 100, room: int = 1000) -> Backlog:
    spec = ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py", job_queue_size=limit)
    return Backlog(spec, job_limit, Room(room, room))


def watched(seconds: float, rows_per_s: float, waiting: int = 10, rate: DrainRate | None = None) -> DrainRate:
    """What is known after so long a time of work at a steady speed."""
    rate = rate or DrainRate()
    for look in range(int(seconds / EVERY_S) + 1):
        rate.note(waiting, int(look * EVERY_S * rows_per_s), look * EVERY_S)
    return rate


@pytest.mark.parametrize("rows_per_s", [0.33, 2, 50, 5000])
def test_the_rate_is_that_of_the_replicas_also_if_they_are_slow(rows_per_s):
    assert watched(30, rows_per_s).seconds_for_each == pytest.approx(1 / rows_per_s, rel=0.25)


def test_a_slow_start_is_not_taken_for_speed():
    # The first row takes 3 s: after 2 s nobody knows more than that it takes longer
    assert watched(2, 0.33).seconds_for_each == pytest.approx(2, rel=0.15)


def test_times_when_nothing_waited_do_not_count():
    rate = watched(30, 0, waiting=0)
    rate.note(10, 0, 31.0)
    for look in range(10):
        rate.note(10, 10 * (look + 1), 31.0 + (look + 1) * EVERY_S)
    assert rate.seconds_for_each == pytest.approx(EVERY_S / 10, rel=0.01)


def test_a_stall_does_not_make_a_fast_model_slow():
    # Given one that has taken 200 rows a second without anything waiting, and then none for a second
    rate = watched(30, 200, waiting=0)
    for look in range(6):
        rate.note(100, 6000, 30 + look * EVERY_S)
    assert rate.seconds_for_each < 0.01


def test_a_refusal_tells_how_long_what_waits_will_take():
    full = backlog(limit=5)
    for look in range(50):
        full.note(5, look // 2, look * 1.0)
    with pytest.raises(QueueFull, match="5 requests wait, and jobQueueSize allows 5") as caught:
        full.admit(1)
    assert caught.value.headers["Retry-After"] in ("10", "11")


def test_a_request_that_is_admitted_takes_room_until_the_next_look():
    some = backlog(room=100)
    some.admit(60)
    with pytest.raises(QueueFull, match="60 bytes are queued; there is no room for 60 more"):
        some.admit(60)
    with pytest.raises(TooManyJobs, match="max_queued_bytes: 100"):
        some.admit_job(60)
    some.room.note(0)
    some.admit_job(60)


def test_a_reason_refuses_everything_until_it_is_gone():
    some = backlog()
    some.refuse("Redis is full.")
    for admit in (some.admit, some.admit_job):
        with pytest.raises(QueueFull, match="Redis is full"):
            admit(1)
    some.refuse("")
    some.admit(1)
    assert some.waiting == 1
