import time
from dataclasses import replace

from thread_replica import make_spec

from marq import keys
from marq.queue import depth
from marq.queue.depth import Total


def waiting(client, *specs) -> dict[str, int]:
    return {key: found.waiting for key, found in depth.read(client, specs).items()}


def test_requests_wait_until_a_replica_takes_them(registry, spec, client):
    # Given requests in several lanes, of which one is taken
    for lane in (keys.FRONT, keys.HIGH, keys.LOW, keys.LOW):
        client.xadd(keys.lane("echo", "1.0", lane), {"body": "x"})
    assert waiting(client, spec) == {"echo/1.0": 4}
    client.xreadgroup(keys.GROUP, "replica", {keys.lane("echo", "1.0", keys.LOW): ">"}, count=1)
    assert waiting(client, spec) == {"echo/1.0": 3}


def test_nothing_waits_for_a_model_without_lanes(registry, spec, client):
    registry.redis.delete(*keys.lanes(spec.name, spec.version))
    assert waiting(client, spec) == {"echo/1.0": 0}


def test_versions_are_apart_and_lanes_that_cannot_be_read_count_as_empty(registry, spec, client):
    broken, other = make_spec("broken"), make_spec("other")
    registry.register(other)
    client.set(keys.lane("broken", "1.0"), "not a stream")
    client.xadd(keys.lane("other", "1.0"), {"body": "x"})
    assert waiting(client, spec, broken, other) == {"echo/1.0": 0, "broken/1.0": 0, "other/1.0": 1}


def test_no_versions_have_no_depth(client):
    assert depth.read(client, []) == {}


def test_the_oldest_request_is_one_that_a_replica_has_taken_until_it_is_answered(registry, spec, client):
    # Given a request that a replica took two hours ago, and one that has waited for an hour
    now_ms = int(time.time() * 1000)
    lane = keys.lane("echo", "1.0", keys.LOW)
    taken = client.xadd(lane, {"body": "x"}, id=f"{now_ms - 7_200_000}-0")
    client.xreadgroup(keys.GROUP, "replica", {lane: ">"})
    client.xadd(lane, {"body": "x"}, id=f"{now_ms - 3_600_000}-0")

    def ages() -> tuple[int, int]:
        found = depth.read(client, [spec])["echo/1.0"]
        return round(found.oldest_s / 3600), round(found.lanes[keys.LOW].waiting_s / 3600)

    assert ages() == (2, 1)
    # When the first one is answered
    client.xack(lane, keys.GROUP, taken)
    client.xdel(lane, taken)
    # Then the other one is the oldest
    assert ages() == (1, 1)


def test_without_requests_there_is_no_age(registry, spec, client):
    found = depth.read(client, [spec])["echo/1.0"]
    assert (found.oldest_s, found.lanes[keys.HIGH].waiting_s) == (None, None)


def test_the_requests_that_are_assigned_to_replicas_count(registry, client):
    # Given a model with sequences and two replicas, one of which is ending
    spec = replace(make_spec("running"), sequence_batching=True)
    registry.register(spec)
    lanes = [keys.seat_lane(spec.name, spec.version, seat) for seat in ("a", "b")]
    for seat, lane in zip("ab", lanes, strict=True):
        client.hset(keys.seat_owners(spec.name, spec.version), seat, f"replica-{seat}")
        client.xgroup_create(lane, keys.GROUP, "0", mkstream=True)
        client.xadd(lane, {"body": "x"})
        client.xadd(lane, {"body": "x"})
    # When one request runs
    client.xreadgroup(keys.GROUP, "replica-a", {lanes[0]: ">"}, count=1)
    # Then the other three wait, beside those that no replica has been assigned
    client.xadd(keys.lane(spec.name, spec.version, keys.HIGH), {"body": "x"})
    found = depth.read(client, [spec])[spec.key]
    assert found.waiting == 4
    assert found.lanes[keys.SEATS].waiting == 3
    assert found.oldest_s is not None


def test_a_replica_with_a_seat_reads_ahead_and_what_is_beyond_a_batch_waits(registry, client):
    # Given a replica that has read the six requests of its sequences, and runs two at a time
    spec = replace(make_spec("ahead", batch_size=2), sequence_batching=True)
    registry.register(spec)
    lane = keys.seat_lane(spec.name, spec.version, "a")
    client.hset(keys.seat_owners(spec.name, spec.version), "a", "replica-a")
    client.xgroup_create(lane, keys.GROUP, "0", mkstream=True)
    entries = [client.xadd(lane, {"body": "x"}) for _ in range(6)]
    client.xreadgroup(keys.GROUP, "replica-a", {lane: ">"})
    # Then four wait, and none does while the last two run
    assert waiting(client, spec) == {"ahead/1.0": 4}
    client.xack(lane, keys.GROUP, *entries[:4])
    client.xdel(lane, *entries[:4])
    assert waiting(client, spec) == {"ahead/1.0": 0}


def test_totals_count_the_entries_of_streams_and_all_that_they_ever_had(client):
    client.xadd("busy", {"body": "x"})
    client.xdel("busy", client.xadd("busy", {"body": "x"}))
    client.set("broken", "not a stream")
    assert depth.totals(client, ["busy", "absent", "broken"]) == [Total(1, 2), Total(0, 0), Total(0, 0)]
