"""A pool that had no Redis for a while does not take others for dead, which had none either."""

import pytest
from clock import FakeClock

from marq import keys
from marq.registry.liveness import SILENCE_S
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.reports import PoolReport
from workers.pool.recovery import Recovery

LANE, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)
CONSUMER = "m-1.0@other/0/1"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recovery(register, make_pool, registry, add, client, monkeypatch, clock):
    """Of one pool, while a replica of another holds an entry; that one's last report is too old."""
    spec = register()
    add(b"held")
    client.xreadgroup(keys.GROUP, CONSUMER, {LANE: ">"})
    now = registry.now()
    monkeypatch.setattr(registry, "now", lambda: now - HEARTBEAT_LIMIT_S - 1)
    registry.report(spec, "m-1.0@other", PoolReport("other", 0))
    monkeypatch.setattr(registry, "now", lambda: now)
    return Recovery(make_pool(spec, node="here"), registry, clock)


def test_after_a_silence_others_get_the_time_to_report(recovery, client, clock):
    # Given that Redis did not answer for a while
    clock.now += SILENCE_S + 0.1
    # When the pool looks again, now and then, the other one keeps the entry that it holds
    looks = int(HEARTBEAT_LIMIT_S)
    for _ in range(looks):
        recovery.requeue_lost(alive=set())
        assert client.xlen(FRONT) == 0
        clock.now += HEARTBEAT_LIMIT_S / (looks + 0.5)
    # And when it has still not reported after the time that a heartbeat may take, it is lost
    clock.now += 1.0
    recovery.requeue_lost(alive=set())
    assert client.xlen(FRONT) == 1


def test_a_pool_that_looks_all_the_time_takes_over_at_once(recovery, client, clock):
    clock.now += SILENCE_S
    recovery.requeue_lost(alive=set())
    assert client.xlen(FRONT) == 1
