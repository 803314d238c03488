"""Two pools of one name: the second one runs nothing while the first is alive."""

import pytest
from clock import FakeClock
from support import wait_for

from marq import keys
from marq.registry.name_lease import NameLease, Owner
from workers.pool.pool_name import PoolName

OTHER = Owner("other", "elsewhere", 7)


@pytest.fixture
def other(client):
    """The lease of a pool of the same name."""
    return NameLease(client, keys.pool_owner("m", "m-1.0@host"), OTHER)


def test_a_second_pool_of_a_name_neither_runs_replicas_nor_takes_entries(
    pool, ready, other, client, add, registry, register, caplog
):
    # Given a live pool of the name, whose replica runs an entry
    other.hold()
    register()
    [entry] = add(b"x")
    client.xreadgroup(keys.GROUP, "m-1.0@host/0/4711", {keys.lane("m", "1.0"): ">"})
    # When a second one starts
    second = pool()
    wait_for(lambda: "another pool named m-1.0@host is alive" in caplog.text, what="the error")
    assert "process 7 on the host elsewhere" in caplog.text
    assert second.info["processes"] == []
    assert registry.reports(register()) == {}
    [pending] = client.xpending_range(keys.lane("m", "1.0"), keys.GROUP, "-", "+", 10)
    assert pending["message_id"] == entry
    # Then it begins when the first has ended
    other.release()
    ready(1)
    wait_for(lambda: client.xlen(keys.lane("m", "1.0")) == 0, what="the entry's run")


def test_a_pool_that_has_lost_its_name_drains(pool, ready, other, client):
    running = pool()
    ready(1)

    def take() -> bool:
        client.delete(keys.pool_owner("m", "m-1.0@host"))  # as at the end of a lease that is not renewed
        return other.hold() is None

    wait_for(take, what="the name")
    wait_for(lambda: running.info["processes"] == [], what="the end of its replica")


def test_the_name_is_asked_for_once_a_heartbeat(client, make_pool, register, round_trips):
    clock = FakeClock()
    name = PoolName(client, make_pool(register()), clock)
    assert name.is_held()
    round_trips.clear()
    assert name.is_held()
    assert round_trips == []
    clock.sleep(1)
    assert name.is_held()
    assert len(round_trips) == 1


def test_a_pool_that_has_ended_leaves_no_lease(pool, ready, client):
    running = pool()
    ready(1)
    running.stop()
    assert not client.exists(keys.pool_owner("m", "m-1.0@host"))
