import json
import time

import pytest

from marq import keys
from marq.queue import job_records
from marq.queue.entries import decode
from marq.queue.ids import JobId
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply, decode_replies

LANES = keys.lanes("m", "1.0")
STARTED_MS = 1_700_000_001_000


@pytest.fixture
def publisher(register):
    return Publisher(register(), "cuda:1", job_result_ttl_ms=60_000)


@pytest.fixture
def take(client):
    """Takes all that is queued, as a replica does."""

    def take():
        found = client.xreadgroup(keys.GROUP, "replica", dict.fromkeys(LANES, ">"))
        return [
            decode(lane.decode(), entry, [part for pair in fields.items() for part in pair])
            for lane, entries in found
            for entry, fields in entries
        ]

    return take


@pytest.fixture
def reader(client):
    """The stream of a gateway that waits for replies."""
    stream = keys.replies("gateway")
    client.xgroup_create(stream, keys.GROUP, mkstream=True)
    return stream


def answers(requests, status: int = 200):
    return [(request, Reply(request.id, status, request.body + b"!")) for request in requests]


def raw_entries(plain, stream) -> list[list[Reply]]:
    return [decode_replies(fields) for _, fields in plain.execute("XRANGE", stream, "-", "+")]


def test_the_replies_of_a_batch_for_one_gateway_are_one_entry(publisher, add, take, plain, reader, client):
    # Given a batch of requests of two gateways
    other = keys.replies("other")
    client.xgroup_create(other, keys.GROUP, mkstream=True)
    add(b"a", b"b", replies=reader)
    add(b"c", replies=other)
    batch = take()
    # When it is published
    plain.pipeline(publisher.commands(answers(batch), STARTED_MS))
    # Then each has one entry with its own replies
    [entry] = raw_entries(plain, reader)
    assert [(reply.id, reply.body) for reply in entry] == [(batch[0].id, b"a!"), (batch[1].id, b"b!")]
    [entry] = raw_entries(plain, other)
    assert [reply.body for reply in entry] == [b"c!"]


def test_a_gateway_that_is_gone_gets_no_stream(publisher, add, take, plain, client):
    add(b"a", replies=keys.replies("gone"))
    plain.pipeline(publisher.commands(answers(take()), STARTED_MS))
    assert not client.exists(keys.replies("gone"))
    assert client.xlen(LANES[2]) == 0


def test_a_producer_may_name_a_stream_that_gets_one_entry_for_each_reply(publisher, add, take, plain, client):
    add(b"a", b"b", reply="my-answers")
    plain.pipeline(publisher.commands(answers(take()), STARTED_MS))
    assert [[reply.body for reply in entry] for entry in raw_entries(plain, "my-answers")] == [
        [b"a!"],
        [b"b!"],
    ]
    assert 0 < client.pttl("my-answers") <= 3_600_000


def test_what_is_answered_is_gone_from_every_lane(publisher, add, take, plain, client, reader):
    for lane in (keys.FRONT, *keys.LANES):
        add(b"a", b"b", lane=lane, replies=reader)
    batch = take()
    assert len(batch) == 8
    plain.pipeline(publisher.commands(answers(batch), STARTED_MS))
    assert [client.xlen(lane) for lane in LANES] == [0, 0, 0, 0]
    assert [client.xpending(lane, keys.GROUP)["pending"] for lane in LANES] == [0, 0, 0, 0]


def test_replies_leave_before_the_entries_are_acknowledged(publisher, add, take, reader):
    add(b"a", replies=reader, reply="s")
    add(b"b", job=1, replies=reader)
    names = [command[0] for command in publisher.commands(answers(take()), STARTED_MS)]
    assert names.index("XACK") > max(at for at, name in enumerate(names) if name == "XADD")
    assert names[-1] == "EVALSHA"


def test_nothing_to_publish_needs_no_command(publisher):
    assert publisher.commands([], STARTED_MS) == []


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, "succeeded"), (399, "succeeded"), (400, "failed"), (503, "failed"), (504, "failed")],
)
def test_a_job_has_a_record_of_all_that_happened(publisher, add, take, plain, client, status, state):
    [entry] = add(b"a", id="7", job=1, attempts=1)
    plain.pipeline(publisher.commands(answers(take(), status), STARTED_MS))
    record = job_records.parse_record(JobId("m", "7"), client.hgetall(keys.job("m", "7")), None)
    assert (record.state, record.status, record.body) == (state, status, b"a!")
    assert (record.version, record.device, record.attempts) == ("1.0", "cuda:1", 2)
    assert record.queued == int(entry.split(b"-")[0]) / 1000
    assert record.started == STARTED_MS / 1000
    assert record.finished == pytest.approx(time.time(), abs=600)
    assert 0 < client.pttl(keys.job("m", "7")) <= 60_000
    assert client.xlen(LANES[2]) == 0


def test_a_job_may_be_answered_on_a_stream_as_well(publisher, add, take, plain, client, reader):
    add(b"a", id="7", job=1, replies=reader, reply="s")
    plain.pipeline(publisher.commands(answers(take()), STARTED_MS))
    assert client.hget(keys.job("m", "7"), "body") == b"a!"
    assert raw_entries(plain, reader) == raw_entries(plain, "s") == [[Reply(b"7", 200, b"a!")]]


def test_predictions_leave_no_record(publisher, add, take, plain, client, reader):
    add(b"a", id="7", replies=reader)
    plain.pipeline(publisher.commands(answers(take()), STARTED_MS))
    assert not client.exists(keys.job("m", "7"))


def test_what_expired_is_answered_and_never_started(publisher, add, take, plain, client, reader):
    add(b"a", id="1", replies=reader)
    add(b"b", id="2", job=1)
    plain.pipeline(publisher.expire(take()))
    [[reply]] = raw_entries(plain, reader)
    assert reply.status == 504
    assert json.loads(reply.body)["message"] == "The request passed its deadline before it ran."
    assert json.loads(reply.headers) == {"content-type": "application/json"}
    record = job_records.parse_record(JobId("m", "2"), client.hgetall(keys.job("m", "2")), None)
    assert (record.state, record.status, record.started) == ("expired", 504, None)
    assert client.xlen(LANES[2]) == 0


def test_a_job_that_was_queued_twice_keeps_its_first_result(publisher, add, take, plain, client):
    add(b"first", b"second", id="1", job="1")
    for request, body in zip(take(), (b"one", b"two"), strict=True):
        plain.pipeline(publisher.commands([(request, Reply(request.id, 200, body))], STARTED_MS))
    assert client.hget(keys.job("m", "1"), "body") == b"one"
    assert client.xlen(LANES[2]) == 0


def test_a_stream_that_nobody_reads_is_bounded(publisher, add, take, plain, client, monkeypatch):
    monkeypatch.setattr("marq.queue.replies.entries.MOST_REPLIES", 100)
    add(*[b"x"] * 500, reply="s")
    plain.pipeline(publisher.commands(answers(take()), STARTED_MS))
    assert client.xlen("s") < 300
