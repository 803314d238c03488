from thread_replica import make_spec

from marq import keys
from marq.queue import depth


def test_requests_wait_until_a_replica_takes_them(registry, spec, client):
    # Given requests in several lanes, of which one is taken
    for lane in (keys.FRONT, keys.HIGH, keys.LOW, keys.LOW):
        client.xadd(keys.lane("echo", "1.0", lane), {"body": "x"})
    assert depth.waiting(client, [spec]) == {"echo/1.0": 4}
    client.xreadgroup(keys.GROUP, "replica", {keys.lane("echo", "1.0", keys.LOW): ">"}, count=1)
    assert depth.waiting(client, [spec]) == {"echo/1.0": 3}


def test_nothing_waits_for_a_model_without_lanes(registry, spec, client):
    registry.delete_lanes(spec)
    assert depth.waiting(client, [spec]) == {"echo/1.0": 0}


def test_versions_are_apart_and_lanes_that_cannot_be_read_count_as_empty(registry, spec, client):
    broken, other = make_spec("broken"), make_spec("other")
    registry.register(other)
    client.set(keys.lane("broken", "1.0"), "not a stream")
    client.xadd(keys.lane("other", "1.0"), {"body": "x"})
    assert depth.waiting(client, [spec, broken, other]) == {"echo/1.0": 0, "broken/1.0": 0, "other/1.0": 1}


def test_no_versions_have_no_depth(client):
    assert depth.waiting(client, []) == {}
