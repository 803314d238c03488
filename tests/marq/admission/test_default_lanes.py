"""Requests without a version: they go to the lane of the default version, whichever it is at that time."""

import pytest
import redis
from thread_replica import make_spec

from marq import keys
from marq.admission import default_lanes
from marq.registry.models import Registry

LANE = "marq:{m}:normal"


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def registry(client):
    registry = Registry(client)
    for version in ("1.0", "2.0"):
        registry.register(make_spec(name="m", version=version))
    return registry


def forward(client, registry) -> int:
    return default_lanes.forward(client, default_lanes.of(registry.models()))


def queued(client, version: str) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in client.xrange(keys.lane("m", version))]


def test_they_follow_the_default_version(client, registry):
    client.xadd(LANE, {"body": b"x", "id": "first", "job": "1"})
    assert forward(client, registry) == 1
    registry.set_default("m", "2.0")
    client.xadd(LANE, {"body": b"x", "id": "second"})
    assert forward(client, registry) == 1
    assert queued(client, "1.0") == [{b"body": b"x", b"id": b"first", b"job": b"1"}]
    assert queued(client, "2.0") == [{b"body": b"x", b"id": b"second"}]


def test_one_without_an_id_has_that_of_the_entry_which_its_producer_knows(client, registry):
    entry = client.xadd(LANE, {"body": b"x"})
    forward(client, registry)
    assert queued(client, "1.0") == [{b"body": b"x", b"id": entry}]


def test_each_lane_keeps_its_priority_and_order(client, registry):
    for name in ("high", "low"):
        for number in range(default_lanes.AT_ONCE + 20):
            client.xadd(f"marq:{{m}}:{name}", {"body": b"%d" % number})
    assert forward(client, registry) == 2 * default_lanes.AT_ONCE
    assert forward(client, registry) == 40
    for name in ("high", "low"):
        bodies = [fields[b"body"] for _, fields in client.xrange(keys.lane("m", "1.0", name))]
        assert bodies == [b"%d" % number for number in range(default_lanes.AT_ONCE + 20)]


def test_a_lane_that_is_empty_does_not_stay(client, registry):
    client.xadd(LANE, {"body": b"x"})
    forward(client, registry)
    assert not client.exists(LANE)


def test_one_with_too_many_fields_is_passed_on_with_the_first_ones(client, registry):
    client.xadd(LANE, {"body": b"x", **{f"f{number}": b"x" for number in range(5000)}})
    assert forward(client, registry) == 1
    assert queued(client, "1.0")[0][b"body"] == b"x"


def test_those_of_a_model_that_is_not_registered_stay_until_it_is(client, registry):
    lanes = default_lanes.of([make_spec(name="later")])
    client.xadd("marq:{later}:normal", {"body": b"x"})
    assert default_lanes.forward(client, lanes) == 0
    registry.register(make_spec(name="later", version="1.0"))
    assert forward(client, registry) == 1
