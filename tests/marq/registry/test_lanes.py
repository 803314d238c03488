from thread_replica import make_spec

from marq import keys
from marq.registry import lanes
from marq.registry.reports import PoolReport


def test_what_was_queued_before_the_registration_is_served(registry, client):
    # Given an entry that came before its model
    spec = make_spec()
    entry = client.xadd(keys.lane("echo", "1.0"), {"body": "early"})
    # When the model is registered
    registry.register(spec)
    # Then a replica gets the entry
    lane = keys.lane("echo", "1.0")
    [[_, entries]] = client.xreadgroup(keys.GROUP, "replica", {lane: ">"})
    assert entries == [(entry, {b"body": b"early"})]


def test_every_lane_has_its_group_and_registering_again_keeps_it(registry, spec, client):
    all_lanes = keys.lanes("echo", "1.0")
    client.xadd(all_lanes[1], {"body": "x"})
    client.xreadgroup(keys.GROUP, "replica", {all_lanes[1]: ">"})
    registry.put(spec)
    assert [client.xinfo_groups(lane)[0]["pending"] for lane in all_lanes] == [0, 1, 0, 0]


def test_all_keys_but_lanes_can_be_deleted(registry, spec, client):
    registry.report(spec, "pool", PoolReport("host", 0))
    client.set(keys.celery_keys("echo", "1.0")[0], "x")
    lanes.delete_traces(client, spec)
    assert {key.decode() for key in client.keys("marq:*echo*")} == set(keys.lanes("echo", "1.0"))
