import json
from pathlib import Path

import pytest
import redis

from marq import keys
from marq.jobs.submission import submit_command
from marq.queue import job_records, scripts
from marq.queue.entries import EntryFields, EntryHead, EntryRef, Request
from marq.queue.ids import JobId
from marq.queue.replies.entries import Reply, decode_replies
from marq.registry.consumers import consumer_name
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.reports import PoolReport
from workers.pool.recovery import Recovery
from workers.pool.replica_process import Ending
from workers.scoreboard import Scoreboard, path_of

KILLED = Ending("killed")
LANE, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)


@pytest.fixture
def pool(make_pool, register):
    return make_pool(register(max_attempts=2, batch_size=4), node="here")


@pytest.fixture
def recovery(pool, registry):
    return Recovery(pool, registry)


@pytest.fixture
def take(client):
    """Takes entries in a consumer's name: their ids."""

    def take(consumer: str, lane: str = LANE) -> list[bytes]:
        found = client.xreadgroup(keys.GROUP, consumer, {lane: ">"})
        return [entry for entry, _ in found[0][1]] if found else []

    return take


@pytest.fixture
def front(client):
    """What waits in the front: (body, attempts)."""
    return lambda: [(fields[b"body"], fields[b"attempts"]) for _, fields in client.xrange(FRONT)]


def named(entries: list[bytes], lane: str = LANE) -> list[EntryRef]:
    """Running entries, as a scoreboard has them."""
    return [EntryRef(lane.encode(), entry) for entry in entries]


def letters(client) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in client.xrange(keys.dead_letters("m"))]


def test_the_attempts_that_count_are_those_which_the_registry_allows_now(
    recovery, pool, registry, add, take, front, client
):
    # Given a pool that was started with two attempts, and a request that has ended three replicas
    add(b"bad", attempts=2)
    # When five are allowed meanwhile, it is tried again
    registry.adjust(pool.model, max_attempts=5)
    recovery.requeue("lost", named(take("lost")), "cpu", KILLED)
    assert front() == [(b"bad", b"3")]
    # And when there is only one, no more
    registry.adjust(pool.model, max_attempts=1)
    recovery.requeue("lost", named(take("lost", FRONT), FRONT), "cpu", KILLED)
    assert front() == []
    assert [(letter[b"body"], letter[b"attempts"]) for letter in letters(client)] == [(b"bad", b"4")]


def test_what_a_replica_held_is_put_back_and_only_what_ran_is_suspect(recovery, add, take, front):
    add(b"ran", b"waited")
    ran, _ = take("me-1.0@here/0/1")
    recovery.requeue("me-1.0@here/0/1", named([ran]), "cpu", KILLED)
    assert front() == [(b"ran", b"1"), (b"waited", b"0")]


def test_after_the_last_attempt_a_job_has_failed(recovery, add, take, client, front):
    # Given a job that has brought one replica down already
    add(b"bad", id="7", job=1, attempts=1, lane=keys.FRONT)
    ran = take("lost", FRONT)
    # When it brings down another
    ending = Ending("replica 0 ended with exit code 3", "exit code 3", ("Traceback",))
    recovery.requeue("lost", named(ran, FRONT), "cuda:0", ending)
    # Then it has failed
    record = job_records.parse_record(JobId("m", "7"), client.hgetall(keys.job("m", "7")), None)
    assert (record.state, record.status, record.attempts, record.device) == ("failed", 500, 2, "cuda:0")
    assert json.loads(record.body or b"") == {
        "code": 500, "type": "InternalServerException", "message": "Worker died.",
    }  # fmt: skip
    # And it is a dead letter that says why
    [letter] = letters(client)
    assert letter[b"reason"] == b"given up after 2 attempts: replica 0 ended with exit code 3"
    assert (letter[b"ending"], letter[b"log"]) == (b"exit code 3", b"Traceback")
    assert (letter[b"attempts"], letter[b"device"]) == (b"2", b"cuda:0")
    assert (letter[b"body"], letter[b"id"], letter[b"version"]) == (b"bad", b"7", b"1.0")
    # And it is in no lane any more
    assert front() == []
    assert client.xpending(FRONT, keys.GROUP)["pending"] == 0


def test_after_the_last_attempt_a_client_gets_500(recovery, add, take, client, plain):
    stream = keys.replies("gateway")
    client.xgroup_create(stream, keys.GROUP, mkstream=True)
    add(b"bad", id="7", replies=stream, attempts=1)
    recovery.requeue("lost", named(take("lost")), "cpu", KILLED)
    [(_, fields)] = plain.execute("XRANGE", stream, "-", "+")
    [reply] = decode_replies(fields)
    assert (reply.id, reply.status) == (b"7", 500)
    assert json.loads(reply.body)["message"] == "Worker died."
    assert isinstance(reply, Reply)


def test_neighbours_of_what_is_given_up_go_on(recovery, add, take, front, client):
    add(b"bad", attempts=1)
    add(b"good")
    recovery.requeue("lost", named(take("lost")), "cpu", KILLED)
    assert front() == [(b"good", b"1")]
    assert [letter[b"body"] for letter in letters(client)] == [b"bad"]
    assert len(client.xpending_range(LANE, keys.GROUP, "-", "+", 9)) == 0


@pytest.mark.parametrize(
    "fields", [{"data": "x", "attempts": "1"}, {"body": "x", "attempts": "1", "id": b"\xff"}]
)
def test_what_is_no_request_is_buried_where_it_was_held(recovery, client, take, fields):
    client.xadd(LANE, fields)
    recovery.requeue("lost", named(take("lost")), "cpu", KILLED)
    [letter] = letters(client)
    assert b"the field `" in letter[b"reason"]
    assert client.xlen(LANE) == client.xpending(LANE, keys.GROUP)["pending"] == 0


def test_a_producer_and_a_job_that_wait_for_what_is_no_request_are_told(recovery, plain, client, take):
    # Given a job and an entry of a producer that are malformed, and that a lost replica was running
    fields = EntryFields(b"x", EntryHead(deadline=b"soon", attempts=b"1", reply=b"answers"))
    script_keys, arguments = submit_command("m", "1.0", keys.NORMAL, [(b"7", fields)])
    plain.run(scripts.SUBMIT, script_keys, *arguments)
    # When they are given up
    recovery.requeue("lost", named(take("lost")), "cpu", KILLED)
    # Then both are told what was wrong
    record = job_records.parse_record(JobId("m", "7"), client.hgetall(keys.job("m", "7")))
    assert (record.state, record.status) == ("failed", 400)
    assert "the field `deadline`" in json.loads(record.body or b"")["message"]
    [(_, answered)] = plain.execute("XRANGE", "answers", "-", "+")
    assert decode_replies(answered)[0].body == record.body


def test_lost_pools_are_taken_over_and_live_ones_are_not(
    recovery, registry, pool, add, take, front, monkeypatch
):
    # Given replicas of a pool that is heard of, of one that is not any more, and of one that never was
    for body, consumer in ((b"a", "m-1.0@alive/0/1"), (b"b", "m-1.0@lost/0/1"), (b"c", "m-1.0@unknown/0/1")):
        add(body)
        take(consumer)
    monkeypatch.setattr(registry, "now", lambda: 1000.0)
    registry.report(pool.model, "m-1.0@lost", PoolReport("lost", 0))
    monkeypatch.setattr(registry, "now", lambda: 1001.0 + HEARTBEAT_LIMIT_S)
    registry.report(pool.model, "m-1.0@alive", PoolReport("alive", 0))
    # When another pool looks
    recovery.requeue_lost(alive=set())
    # Then what the lost ones held is put back, as what may have brought them down
    assert front() == [(b"b", b"1"), (b"c", b"1")] or front() == [(b"c", b"1"), (b"b", b"1")]
    # And when the one that lived is not heard of any more, its is too
    monkeypatch.setattr(registry, "now", lambda: 1002.0 + 2 * HEARTBEAT_LIMIT_S)
    recovery.requeue_lost(alive=set())
    assert (b"a", b"1") in front()


def test_a_pool_knows_what_its_old_replicas_were_running(recovery, pool, add, take, front):
    # Given a pool that was killed with its replica, which had fetched two rows and ran the second
    consumer = consumer_name(pool.name, 0, 4711)
    add(b"waited", b"ran")
    _, ran = take(consumer)
    Scoreboard.create(path_of(Path(pool.run_dir), pool.name, 0), 4).begin([Request(ran, LANE, b"ran")])
    # When it is there again
    recovery.requeue_lost(alive=set())
    # Then only the second is suspect
    assert front() == [(b"waited", b"0"), (b"ran", b"1")]


def test_an_old_replica_without_a_board_may_have_run_all_that_it_held(recovery, pool, add, take, front):
    add(b"a", b"b")
    take(consumer_name(pool.name, 0, 4711))
    recovery.requeue_lost(alive=set())
    assert front() == [(b"a", b"1"), (b"b", b"1")]


def test_a_pools_own_replicas_keep_what_they_hold(recovery, pool, add, take, front, client):
    consumer = consumer_name(pool.name, 0, 4711)
    add(b"a")
    take(consumer)
    recovery.requeue_lost(alive={consumer})
    assert front() == []
    assert client.xpending_range(LANE, keys.GROUP, "-", "+", 9)[0]["consumer"] == consumer.encode()


@pytest.mark.parametrize("consumer", ["me", "a/b", "m-1.0@here", "m-1.0@here/x/1", "/"])
def test_a_consumer_that_is_no_replica_is_taken_over_too(recovery, add, take, front, consumer):
    # Given somebody who has read a lane by hand
    add(b"a")
    take(consumer)
    recovery.requeue_lost(alive=set())
    assert front() == [(b"a", b"1")]


def test_lanes_without_consumers_need_nothing(recovery, client, front):
    recovery.requeue_lost(alive=set())
    assert front() == []
    assert client.xlen(keys.dead_letters("m")) == 0


def test_a_script_that_redis_forgot_is_loaded(recovery, add, take, client, front):
    client.script_flush()
    add(b"bad", id="7", job=1, attempts=1)
    recovery.requeue("lost", named(take("lost")), "cpu", KILLED)
    assert client.hget(keys.job("m", "7"), "state") == b"failed"


def test_what_cannot_be_answered_now_is_not_buried_yet(recovery, add, take, client):
    # Given a Redis that is too full for the answer to a request that is given up
    add(b"bad", reply="answers", attempts=1)
    ran = named(take("lost"))
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError):
            recovery.requeue("lost", ran, "cpu", KILLED)
    finally:
        client.config_set("maxmemory", 0)
    # Then nothing is lost: when there is room, it is answered and buried, once
    assert letters(client) == []
    for _ in range(2):
        recovery.requeue("lost", ran, "cpu", KILLED)
    assert [letter[b"body"] for letter in letters(client)] == [b"bad"]
    assert [fields[b"status"] for _, fields in client.xrange("answers")] == [b"500"]
