import time

import pytest

from marq import keys
from marq.connections.blocking import Connection
from marq.jobs.submission import submit_command
from marq.queue import job_records, scripts
from marq.queue.entries import EntryFields, decode
from marq.queue.ids import JobId

LANE, FRONT = keys.lane("echo", "1.0"), keys.lane("echo", "1.0", keys.FRONT)
LANES = keys.lanes("echo", "1.0")


@pytest.fixture
def run(redis_url, spec):
    """Runs a script on a Redis that knows the model's lanes."""
    connection = Connection(redis_url)
    yield connection.run
    connection.close()


@pytest.fixture
def submit(run):
    def submit(request_id: bytes, body: bytes = b"x"):
        rows = [(request_id, EntryFields(body))]
        script_keys, arguments = submit_command("echo", "1.0", keys.NORMAL, rows)
        [queued] = run(scripts.SUBMIT, script_keys, *arguments)
        return queued

    return submit


@pytest.fixture
def take(client):
    """Takes entries in a consumer's name: their ids."""

    def take(consumer: str = "lost", lane: str = LANE, count: int = 10) -> list[bytes]:
        found = client.xreadgroup(keys.GROUP, consumer, {lane: ">"}, count=count)
        return [entry for entry, _ in found[0][1]] if found else []

    return take


@pytest.fixture
def publish(run):
    """Publishes one job's result as a replica does: how many were published."""

    def publish(entry: bytes, request_id: str, body: bytes, lane: str = LANE):
        return run(
            scripts.PUBLISH, [lane, keys.job("echo", request_id)],
            keys.GROUP, 60_000, keys.finished("echo"), "1.0", "cpu", 1_700_000_002_000, 1, 1_700_000_001_000,
            "succeeded", 1, 200, b"", "body", 1, entry, body,
        )  # fmt: skip

    return publish


@pytest.fixture
def requeue(run):
    """Puts back what a consumer held, which ran these entries of a lane: what has had all its attempts."""

    def requeue(*running: bytes, lane: str = LANE, consumer: str = "lost", most: int = 3):
        named = [f"{lane} {entry.decode()}" for entry in running]
        return run(scripts.REQUEUE, [FRONT, *LANES], keys.GROUP, consumer, most, keys.job("echo", ""), *named)

    return requeue


def front(client):
    return [decode(FRONT, *entry_and_flat_fields(entry)) for entry in client.xrange(FRONT)]


def entry_and_flat_fields(entry):
    return entry[0], [part for pair in entry[1].items() for part in pair]


# one job is queued once


def test_a_job_is_queued_once_however_often_it_is_submitted(submit, client):
    # Given a job
    entry = submit(b"7", b"first")
    # When one with the same id is submitted
    assert submit(b"7", b"second") == 0
    # Then the first is queued alone and its record is unchanged
    [(queued, fields)] = client.xrange(LANE)
    assert (queued, fields) == (entry, {b"id": b"7", b"job": b"1", b"body": b"first"})
    assert client.hget(keys.job("echo", "7"), "entry") == entry


def test_a_record_tells_where_its_job_is_queued(submit, client):
    entry = submit(b"7")
    record = client.hgetall(keys.job("echo", "7"))
    queued = int(record.pop(b"queued")) / 1000
    assert record == {
        b"state": b"queued", b"version": b"1.0", b"lane": LANE.encode(), b"entry": entry,
        b"priority": b"normal",
    }  # fmt: skip
    assert queued == pytest.approx(time.time(), abs=600)


# a result is published by whoever still holds the entry


def test_a_result_is_stored_the_entry_is_gone_and_waiters_are_told(submit, take, publish, client):
    with client.pubsub(ignore_subscribe_messages=True) as subscription:
        # Given a job that is being run, and somebody who waits
        subscription.subscribe(keys.finished("echo"))
        submit(b"7")
        [entry] = take()
        # When its result is published
        assert publish(entry, "7", b"done") == 1
        # Then it can be read, for as long as results are kept
        stored = client.hgetall(keys.job("echo", "7"))
        assert (stored[b"state"], stored[b"body"], stored[b"status"]) == (b"succeeded", b"done", b"200")
        assert 0 < client.pttl(keys.job("echo", "7")) <= 60_000
        # And the queue is empty, and the waiter hears of it
        assert client.xlen(LANE) == 0
        assert client.xpending(LANE, keys.GROUP)["pending"] == 0
        message = next(m for _ in range(50) if (m := subscription.get_message(timeout=0.1)))
        assert message["data"] == b"7"


def test_publishing_keeps_when_the_job_was_submitted(submit, take, publish, client):
    submit(b"7")
    queued = client.hget(keys.job("echo", "7"), "queued")
    publish(take()[0], "7", b"")
    assert client.hget(keys.job("echo", "7"), "queued") == queued != b"1700000000000"


def test_a_job_that_came_by_xadd_gets_a_record_with_its_result(client, take, publish):
    client.xadd(LANE, {"id": "7", "job": "1", "body": "x"}, id="1700000000000-0")
    publish(take()[0], "7", b"done")
    record = job_records.parse_record(JobId("echo", "7"), client.hgetall(keys.job("echo", "7")), None)
    assert (record.state, record.body, record.queued) == ("succeeded", b"done", 1_700_000_000.0)


def test_whoever_lost_the_entry_cannot_publish(submit, take, publish, requeue, client):
    # Given a job whose replica was presumed lost, so that another one has taken it
    submit(b"7")
    [old] = take("lost")
    requeue(old)
    [new] = take("other", FRONT)
    # When both publish, the late one first
    assert publish(old, "7", b"late") == 0
    assert client.hget(keys.job("echo", "7"), "state") == b"queued"
    assert publish(new, "7", b"right", FRONT) == 1
    assert publish(old, "7", b"later still") == 0
    # Then the result is the other one's
    assert client.hget(keys.job("echo", "7"), "body") == b"right"


def test_one_call_publishes_those_of_a_batch_that_are_still_held(run, submit, take, client):
    submit(b"1")
    submit(b"2")
    first, second = take()
    client.xdel(LANE, first)
    client.xack(LANE, keys.GROUP, first)
    client.hset(keys.job("echo", "1"), "entry", "0-1")  # it was moved to another stream
    about = (keys.GROUP, 60_000, keys.finished("echo"), "1.0", "cpu", 1, 1, 1)
    answers = ("succeeded", 1, 200, "", "body", 2, first, second, "done", "done")
    script_keys = [LANE, keys.job("echo", "1"), keys.job("echo", "2")]
    assert run(scripts.PUBLISH, script_keys, *about, *answers) == 1
    assert [client.hget(keys.job("echo", i), "state") for i in "12"] == [b"queued", b"succeeded"]


# what a lost consumer held goes to the front


def test_what_a_lost_consumer_held_is_moved_to_the_front_in_order(client, take, requeue):
    # Given entries that a consumer and another one hold, and one that nobody has taken
    for number in range(4):
        client.xadd(LANE, {"id": f"r{number}", "body": f"b{number}", "type": "t", "own": "kept"})
    taken = take("lost", count=2)
    take("other", count=1)
    # When the first consumer is lost while it ran its second entry
    assert requeue(taken[1]) == []
    # Then its entries are in the front, and only the one that ran has an attempt behind it
    moved = front(client)
    assert [(r.id, r.body, r.type, r.attempts) for r in moved] == [
        (b"r0", b"b0", b"t", b"0"), (b"r1", b"b1", b"t", b"1"),
    ]  # fmt: skip
    assert all(fields[b"own"] == b"kept" for _, fields in client.xrange(FRONT))
    # And nothing else has changed
    assert [fields[b"id"] for _, fields in client.xrange(LANE)] == [b"r2", b"r3"]
    assert [c["name"] for c in client.xinfo_consumers(LANE, keys.GROUP)] == [b"other"]
    assert client.xpending(LANE, keys.GROUP)["pending"] == 1


def test_an_entry_of_the_same_id_in_another_lane_gets_no_attempt(client, take, requeue):
    # Given entries of one id in every lane, the front included, that a consumer holds
    for lane in LANES:
        client.xadd(lane, {"id": lane, "body": "x"}, id="1763-0")
        assert take("lost", lane) == [b"1763-0"]
    # When it is lost while it ran one of them
    assert requeue(b"1763-0") == []
    # Then that one alone has an attempt behind it
    attempts = {request.id.decode(): request.attempts for request in front(client)}
    assert attempts == {lane: b"1" if lane == LANE else b"0" for lane in LANES}


def test_nothing_is_lost_whatever_lane_it_came_from(client, take, requeue):
    # Given entries of every lane, the front included, that a consumer holds
    for lane in LANES:
        for number in range(25):
            client.xadd(lane, {"id": f"{lane}-{number}", "body": "x"})
        take("lost", lane, 25)
    # When it is lost
    requeue()
    # Then each of them is in the front once, and can be taken
    ids = [request.id for request in front(client)]
    assert sorted(ids) == sorted(f"{lane}-{number}".encode() for lane in LANES for number in range(25))
    assert len(take("other", FRONT, 200)) == 100
    assert [client.xlen(lane) for lane in LANES[1:]] == [0, 0, 0]


def test_an_entry_without_an_id_keeps_the_one_it_was_known_by(client, take, requeue):
    entry = client.xadd(LANE, {"body": "x"})
    for _ in range(2):  # also when it is moved again
        take("lost")
        take("lost", FRONT)
        requeue()
        assert [request.id for request in front(client)] == [entry]


def test_a_job_that_was_moved_is_still_seen_to_run(submit, take, requeue, client):
    submit(b"7")
    requeue(*take())
    [moved] = take("other", FRONT)
    stored = client.hgetall(keys.job("echo", "7"))
    assert (stored[b"lane"], stored[b"entry"]) == (FRONT.encode(), moved)
    lane, group, first, last, count = job_records.pending_query(stored)
    [pending] = client.xpending_range(lane, group, first, last, count)
    assert pending["consumer"] == b"other"


def test_moving_a_prediction_makes_no_record(client, take, requeue):
    client.xadd(LANE, {"id": "7", "body": "x"})
    requeue(*take())
    assert not client.exists(keys.job("echo", "7"))


def test_what_has_had_all_its_attempts_is_returned_and_stays(client, take, requeue):
    # Given a request that has brought two replicas down
    client.xadd(LANE, {"id": "7", "body": "x"})
    requeue(*take())
    requeue(*take(lane=FRONT), lane=FRONT)
    assert [request.attempts for request in front(client)] == [b"2"]
    # When it brings down the third
    [entry] = take(lane=FRONT)
    [spent] = requeue(entry, lane=FRONT)
    # Then it is returned, and stays with its consumer until it has been answered
    assert spent[:3] == [FRONT.encode(), entry, 3]
    assert decode(FRONT, entry, spent[3]).body == b"x"
    assert client.xpending_range(FRONT, keys.GROUP, "-", "+", 9)[0]["consumer"] == b"lost"
    assert requeue(entry, lane=FRONT)[0][1] == entry


def test_one_that_is_spent_does_not_hold_back_its_neighbours(client, take, requeue):
    client.xadd(LANE, {"id": "bad", "attempts": "2", "body": "x"})
    client.xadd(LANE, {"id": "good", "body": "x"})
    bad, good = take()
    [spent] = requeue(bad, good)
    assert spent[1] == bad
    assert [(request.id, request.attempts) for request in front(client)] == [(b"good", b"1")]


@pytest.mark.parametrize(("own", "most", "is_spent"), [(1, 3, True), (9, 3, False), (9, 1, True)])
def test_an_entry_may_have_its_own_most_attempts(client, take, requeue, own, most, is_spent):
    client.xadd(LANE, {"id": "r", "body": "x", "attempts": 2, "max_attempts": own})
    assert len(requeue(*take(), most=most)) == is_spent
    assert len(front(client)) == (not is_spent)


def test_what_was_not_being_run_is_not_given_up_when_fewer_attempts_are_allowed(client, take, requeue):
    client.xadd(LANE, {"id": "7", "attempts": "2", "body": "x"})
    take()
    assert requeue(most=1) == []
    assert [request.attempts for request in front(client)] == [b"2"]


def test_an_entry_that_was_deleted_is_forgotten(client, take, requeue):
    client.xadd(LANE, {"body": "x"})
    [entry] = take()
    client.xdel(LANE, entry)
    assert requeue(entry) == []
    assert client.xinfo_consumers(LANE, keys.GROUP) == []
    assert front(client) == []


def test_an_entry_with_thousands_of_fields_does_not_hold_up_the_others(client, take, requeue):
    client.xadd(LANE, {"body": "big", **{f"own{number}": "" for number in range(5000)}})
    client.xadd(LANE, {"body": "small"})
    big, _ = take()
    [spent] = requeue()
    assert spent[:3] == [LANE.encode(), big, 0]
    assert [request.body for request in front(client)] == [b"small"]


def test_a_consumer_that_holds_nothing_is_removed(client, take, requeue):
    take("lost")
    assert requeue() == []
    assert [client.xinfo_consumers(lane, keys.GROUP) for lane in LANES] == [[], [], [], []]
