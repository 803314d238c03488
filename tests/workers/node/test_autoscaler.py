"""Decisions on elastic versions in a real Redis; the pools' reports are written by the tests."""

import logging

import pytest
from support import wait_for

from marq import keys
from marq.registry.reports import READY, PoolReport, ReplicaReport
from marq.registry.sizes.decisions import Decision
from marq.registry.sizes.hosts import Device, Host, publish
from workers.node.autoscaler import Autoscaler, AutoscalerThread


@pytest.fixture
def autoscaler(client):
    return Autoscaler(client)


def size(registry, spec) -> int:
    return registry.models().size(spec)


def rated(registry, spec, replicas: int = 1) -> None:
    """An earlier decision, from which the rate of a replica is known: 10 requests/s."""
    registry.decide(spec, Decision(replicas, rate=10.0))


def test_a_backlog_gets_replicas_and_the_decision_is_announced(
    autoscaler, registry, register, add, client, caplog
):
    spec = register(min_workers=1, max_workers=8)
    rated(registry, spec)
    add(*[b"row"] * 40)
    with caplog.at_level(logging.INFO):
        autoscaler.look()
    assert size(registry, spec) == 4
    assert (
        "m/1.0: 1 -> 4 replicas: the waiting requests would wait longer than the target "
        "(40 waiting, 4.0 requests/s arrive, 10.0 requests/s for each replica)"
    ) in caplog.messages
    (_, change), *_ = client.xrevrange(keys.MANAGEMENT, count=1)
    assert (change[b"action"], change[b"model"]) == (b"size", b"m")


def test_the_first_request_wakes_a_version_that_rests(autoscaler, registry, register, add):
    spec = register(min_workers=0, max_workers=4, idle_timeout_s=60)
    autoscaler.look()
    assert size(registry, spec) == 0
    add(b"row")
    autoscaler.look()
    assert size(registry, spec) == 1


def test_a_version_whose_sizes_are_equal_is_left_alone(autoscaler, registry, register, add):
    spec = register(min_workers=1, max_workers=1)
    add(*[b"row"] * 1000)
    autoscaler.look()
    assert (size(registry, spec), registry.models().decisions) == (1, {})


def test_one_node_decides_and_another_goes_on_when_it_has_ended(registry, register, add, client):
    first, second = Autoscaler(client), Autoscaler(client)
    spec = register(min_workers=1, max_workers=8)
    rated(registry, spec)
    first.look()
    client.pexpire(keys.AUTOSCALER, 600_000)  # however slow this machine is
    add(*[b"row"] * 40)
    second.look()
    assert size(registry, spec) == 1  # the first one has the lease, and has not looked again
    client.pexpire(keys.AUTOSCALER, 1)  # it was killed
    wait_for(lambda: not client.exists(keys.AUTOSCALER))
    second.look()
    assert size(registry, spec) == 4


def test_a_node_that_leaves_lets_another_decide_at_once(registry, register, add, client):
    first, second = Autoscaler(client), Autoscaler(client)
    spec = register(min_workers=1, max_workers=8)
    rated(registry, spec)
    first.look()
    first.release()
    add(*[b"row"] * 40)
    second.look()
    assert size(registry, spec) == 4


def test_a_size_set_by_hand_is_the_smallest_one(autoscaler, registry, register):
    spec = register(min_workers=1, max_workers=8)
    autoscaler.look()
    registry.scale(spec, 5, 8)
    autoscaler.look()
    assert size(registry, registry.current(spec)) == 5


def test_it_grows_to_one_replica_for_each_device(autoscaler, registry, register, add, client):
    spec = register(min_workers=1, max_workers=8, device_type="gpu")
    rated(registry, spec)
    client.zadd(keys.NODES, {"a": registry.now()})
    publish(client, "a", Host("cuda", (Device(0), Device(1))))
    add(*[b"row"] * 1000)
    autoscaler.look()
    assert size(registry, spec) == 2


def test_the_decision_on_a_version_that_is_unregistered_goes_with_it(autoscaler, registry, register, client):
    spec = register(min_workers=1, max_workers=8)
    rated(registry, spec)
    registry.unregister(spec)
    assert not client.exists(keys.SIZES)
    fixed = register(min_workers=2, max_workers=2)
    rated(registry, fixed)
    autoscaler.look()
    assert not client.exists(keys.SIZES)
    assert size(registry, fixed) == 2


def test_withdrawn_requests_leave_redis_without_its_lag_and_change_nothing_here(
    autoscaler, registry, register, add, client
):
    spec = register(min_workers=1, max_workers=8)
    rated(registry, spec)
    lane = keys.lane("m", "1.0")
    entries = add(*[b"row"] * 45)
    client.xreadgroup(keys.GROUP, "replica", {lane: ">"}, count=2)
    client.xdel(lane, entries[20], entries[21], entries[30])
    [group] = client.xinfo_groups(lane)
    assert group["lag"] is None
    autoscaler.look()
    assert registry.models().decisions["m/1.0"].waiting == 40


def test_the_measured_rate_comes_from_the_reports(autoscaler, registry, register, add, client):
    spec = register(min_workers=1, max_workers=8)
    add(*[b"row"] * 100)
    began = registry.now()
    for second in range(4):  # ten requests a second, by the reports' own times
        replica = ReplicaReport(0, 7, "cpu", READY, 0.0, requests=10 * second)
        report = PoolReport("a", 1, generation=0, replicas=(replica,), reported=began + second)
        client.hset(keys.pools("m", "1.0"), "m-1.0@a", report.to_json())
        autoscaler.look()
    assert size(registry, spec) == 8
    assert registry.models().decisions["m/1.0"].rate == pytest.approx(10, rel=0.1)


def test_the_thread_bears_a_failure_and_goes_on(redis_url, registry, register, add, client, caplog):
    spec = register(min_workers=1, max_workers=8)
    client.set(keys.pools("m", "1.0"), "no hash")
    add(b"row")
    thread = AutoscalerThread(redis_url)
    thread.start()
    try:
        wait_for(lambda: "the number of replicas cannot be decided" in caplog.text, what="the warning")
        client.delete(keys.pools("m", "1.0"))
        rated(registry, spec)
        add(*[b"row"] * 39)
        wait_for(lambda: size(registry, spec) == 4, what="a decision")
    finally:
        thread.stop()
    assert not client.exists(keys.AUTOSCALER)
