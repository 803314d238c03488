"""A pool that had no Redis for a while does not take others for dead, which had none either."""

import time

import pytest
from support import wait_for

from marq import keys
from marq.registry import liveness as patience_module
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.reports import PoolReport
from workers.pool.recovery import Recovery

LANE, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)
CONSUMER = "m-1.0@other/0/1"


@pytest.fixture
def recovery(register, make_pool, registry, add, client, monkeypatch):
    """Of one pool, while a replica of another holds an entry; that one's last report is too old."""
    spec = register()
    add(b"held")
    client.xreadgroup(keys.GROUP, CONSUMER, {LANE: ">"})
    now = registry.now()
    monkeypatch.setattr(registry, "now", lambda: now - HEARTBEAT_LIMIT_S - 1)
    registry.report(spec, "m-1.0@other", PoolReport("other", 0))
    monkeypatch.setattr(registry, "now", lambda: now)
    return Recovery(make_pool(spec, node="here"), registry)


def test_after_a_silence_others_get_the_time_to_report(recovery, client, monkeypatch):
    monkeypatch.setattr(patience_module, "SILENCE_S", 1.0)
    monkeypatch.setattr(patience_module, "HEARTBEAT_LIMIT_S", 0.5)
    # Given that Redis did not answer for a while
    time.sleep(1.1)
    # When the pool looks again, the other one keeps what it holds
    recovery.requeue_lost(alive=set())
    assert client.xlen(FRONT) == 0
    # And when it has still not reported after the time that a heartbeat may take, it is lost
    began = time.monotonic()
    wait_for(lambda: recovery.requeue_lost(alive=set()) or client.xlen(FRONT) == 1)
    assert time.monotonic() - began > 0.4


def test_who_looks_all_the_time_takes_over_at_once(recovery, client):
    recovery.requeue_lost(alive=set())
    assert client.xlen(FRONT) == 1
