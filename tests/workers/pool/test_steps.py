"""What a pool logs while its steps fail."""

import logging

import pytest
import redis
from clock import FakeClock

from workers.pool import steps
from workers.pool.steps import CALM_S, Steps

MISCONF = redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")
NO_SPACE = OSError(28, "No space left on device")


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(steps, "PAUSE_S", 0.0)
    return FakeClock()


def fail(error: Exception):
    def step() -> None:
        raise error

    return step


def test_failures_that_take_turns_are_logged_once_each_until_all_has_been_calm(clock, caplog):
    caplog.set_level(logging.WARNING)
    pool = Steps("m-1.0@host", clock)
    for _ in range(100):
        for step in (fail(MISCONF), fail(NO_SPACE), bool):
            pool.run(step)
            clock.sleep(0.5)
    assert [record.args[1] for record in caplog.records] == [MISCONF, NO_SPACE]
    clock.sleep(CALM_S)
    pool.run(bool)
    pool.run(fail(NO_SPACE))
    assert len(caplog.records) == 3


def test_it_knows_for_how_long_redis_has_failed(clock):
    pool = Steps("m-1.0@host", clock)
    pool.run(fail(NO_SPACE))
    assert pool.redis_fails_for() == 0
    for _ in range(10):
        pool.run(fail(MISCONF))
        clock.sleep(1)
        pool.run(bool)  # one of the steps that need no Redis
    assert pool.redis_fails_for() == 10
    clock.sleep(CALM_S)
    pool.run(bool)
    assert pool.redis_fails_for() == 0
