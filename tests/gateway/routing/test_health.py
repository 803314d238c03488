import pytest
import redis
from clock import FakeClock
from thread_replica import make_spec

from gateway.routing.health import UNSERVED_S, Health
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.reports import PoolReport
from marq.registry.snapshot import Models, Snapshot

FULL = redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def health(clock):
    return Health(clock)


def snapshot(min_workers: int = 1, pools: int = 0) -> Snapshot:
    """The registry with one model and so many live pools of it."""
    spec = make_spec("m", min_workers=min_workers)
    models = Models({"m": {spec.version: spec}}, {"m": spec.version})
    return Snapshot(models, {spec.key: [PoolReport("host", 1)] * pools}, 0.0)


def test_redis_that_does_not_answer_is_unhealthy_until_it_does(health, clock):
    health.begin()
    clock.sleep(HEARTBEAT_LIMIT_S)
    assert health.is_good
    clock.sleep(1)
    assert not health.is_good
    health.note(snapshot(pools=1))
    assert health.is_good


def test_a_server_without_models_is_healthy_as_torchserve_is(health, clock):
    for _ in range(100):
        health.note(Snapshot(Models({}, {}), {}, 0.0))
        clock.sleep(1)
    assert health.is_good


@pytest.mark.parametrize(("min_workers", "pools", "good"), [(1, 0, False), (1, 1, True), (0, 0, True)])
def test_without_a_pool_of_any_default_version_it_is_unhealthy(health, clock, min_workers, pools, good):
    health.note(snapshot(min_workers, pools))
    clock.sleep(UNSERVED_S)
    health.note(snapshot(min_workers, pools))
    assert health.is_good
    clock.sleep(1)
    assert health.is_good is good


def test_a_pool_that_comes_makes_it_healthy(health, clock):
    health.note(snapshot())
    clock.sleep(UNSERVED_S + 1)
    health.note(snapshot(pools=1))
    assert health.is_good


def test_a_default_version_that_fails_for_too_long_makes_it_unhealthy(health):
    health.is_failing = True
    assert not health.is_good


def test_redis_that_answers_but_refuses_commands_is_unhealthy_until_it_runs_them(health, clock):
    health.begin()
    health.refuse(FULL)
    assert health.failure == f"Redis fails: {FULL}"  # known at once: requests are refused
    for _ in range(int(HEARTBEAT_LIMIT_S) + 1):
        assert health.is_good
        clock.sleep(1)
        health.note(snapshot(pools=1))
        health.refuse(FULL)
    assert not health.is_good
    health.accept()
    assert health.is_good
    assert not health.failure
