"""Requests that pass their deadline while nothing takes them."""

import time

import pytest
from thread_replica import make_spec

from gateway.routing import late_requests
from gateway.routing.late_requests import LateRequests
from marq import keys
from marq.connections import clients
from marq.queue.replies.entries import decode_replies
from marq.registry.models import Registry

SPEC = make_spec("m", "1.0")
LANE, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)
REPLIES = keys.replies("gateway")


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def late(client):
    Registry(client).register(SPEC)
    client.xgroup_create(REPLIES, keys.GROUP, mkstream=True)
    return LateRequests(client, 60_000)


@pytest.fixture
def queue(client):
    """Queues a request with a deadline so many seconds from now: its entry."""

    def queue(name: str, in_s: float | None, lane: str = LANE, **fields: str) -> bytes:
        deadline = {} if in_s is None else {"deadline": int((time.time() + in_s) * 1000)}
        return client.xadd(lane, {"id": name, **deadline, **fields, "replies": REPLIES, "body": "x"})

    return queue


def replies(client) -> dict[bytes, int]:
    return {
        reply.id: reply.status
        for _, fields in client.xrange(REPLIES)
        for reply in decode_replies([part for pair in fields.items() for part in pair])
    }


def left(client, lane: str = LANE) -> list[bytes]:
    return [fields[b"id"] for _, fields in client.xrange(lane)]


def test_late_ones_are_answered_and_leave_the_queue_and_others_stay(late, queue, client):
    queue("in time", 600)
    queue("late", -1)
    queue("without", None)
    queue("urgent", -1, keys.lane("m", "1.0", keys.HIGH))
    queue("again", -1, FRONT)
    late.expire(SPEC)
    assert replies(client) == {b"late": 504, b"urgent": 504, b"again": 504}
    assert left(client) == [b"in time", b"without"]
    assert left(client, FRONT) == []
    # A replica that comes later gets the others, each once
    [(_, entries)] = client.xreadgroup(keys.GROUP, "r", {LANE: ">"})
    assert [fields[b"id"] for _, fields in entries] == [b"in time", b"without"]
    assert [
        consumer["name"] for consumer in client.xinfo_consumers(LANE, keys.GROUP) if consumer["pending"]
    ] == [b"r"]


def test_a_late_job_is_expired(late, queue, client):
    client.hset(keys.job("m", "j"), mapping={"state": "queued"})
    queue("j", -1, job="1")
    late.expire(SPEC)
    assert client.hget(keys.job("m", "j"), "state") == b"expired"
    assert client.ttl(keys.job("m", "j")) > 0


def test_what_a_replica_has_taken_is_left_to_it(late, queue, client):
    queue("taken", -1)
    client.xreadgroup(keys.GROUP, "replica", {LANE: ">"})
    late.expire(SPEC)
    assert replies(client) == {}
    assert left(client) == [b"taken"]


def test_long_queues_are_looked_through_piece_by_piece(late, queue, client, monkeypatch):
    monkeypatch.setattr(late_requests, "AT_ONCE", 2)
    for number in range(5):
        queue(f"{number}", 600)
    queue("late", -1)
    for _ in range(3):
        assert replies(client) == {}
        late.expire(SPEC)
    assert replies(client) == {b"late": 504}
    # The next look begins at the front again
    late.expire(SPEC)
    queue("later", -1)
    for _ in range(3):
        late.expire(SPEC)
    assert replies(client)[b"later"] == 504


def test_a_version_without_lanes_is_no_error(late, client):
    client.delete(*keys.lanes("m", "1.0"))
    late.expire(SPEC)
