"""What becomes of those who wait for an entry that turns out to be no request."""

import asyncio
import json

import pytest

from marq import keys
from marq.connections.blocking import Connection
from marq.errors import MalformedEntry
from marq.jobs import jobs as jobs_module
from marq.jobs.jobs import Jobs
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead, decode
from marq.queue.giving_up import MOST_TAKEN, Death, bury, refuse, take
from marq.queue.replies.entries import decode_replies

LANE = keys.lane("echo", "1.0")
REASON = "the field `deadline` must be a whole number, not b'soon'"
MALFORMED = EntryFields(b"x", EntryHead(deadline=b"soon"))


@pytest.fixture
async def jobs(redis_url, spec):
    broker = Broker(redis_url)
    await broker.start()
    jobs = Jobs(broker)
    yield jobs
    jobs.stop()
    await broker.stop()


@pytest.fixture
def plain(redis_url):
    connection = Connection(redis_url)
    yield connection
    connection.close()


def malformed(fields: list[bytes]) -> MalformedEntry:
    with pytest.raises(MalformedEntry) as caught:
        decode(LANE, b"1-1", fields)
    return caught.value


def bury_all(client, plain, spec) -> None:
    for entry, fields in client.xrange(LANE):
        error = malformed([part for pair in fields.items() for part in pair])
        plain.pipeline(bury(spec, LANE, entry, Death(error.reason)))


async def test_a_job_that_is_no_request_has_failed_and_who_waits_hears_it_at_once(
    jobs, client, plain, spec, monkeypatch
):
    monkeypatch.setattr(jobs_module, "RECHECK_S", 60)
    monkeypatch.setenv("MARQ_JOB_RESULT_TTL_S", "100")
    # Given a job whose entry is malformed, and somebody who waits for it
    job_id = await jobs.submit("echo", "1.0", b"7", MALFORMED)
    waiting = asyncio.create_task(jobs.wait(job_id, 20))
    while not client.pubsub_channels():  # it has not subscribed yet
        await asyncio.sleep(0.01)
    # When it is buried
    bury_all(client, plain, spec)
    # Then the job has failed, and says why
    async with asyncio.timeout(60):
        record = await waiting
    assert (record.state, record.status) == ("failed", 400)
    assert record.headers == {"content-type": "application/json"}
    assert json.loads(record.body) == {"code": 400, "type": "BadRequestException", "message": REASON}
    assert record.queued <= record.finished
    # And its record expires as that of any job that has finished
    assert 90 < client.ttl(keys.job("echo", "7")) <= 100
    # And the letter is there
    assert client.xlen(keys.dead_letters("echo")) == 1
    assert client.xlen(LANE) == 0


async def test_an_entry_with_the_id_of_somebody_elses_job_does_that_no_harm(jobs, client, plain, spec):
    # Given a job, and an entry of a producer that uses its id
    job_id = await jobs.submit("echo", "1.0", b"7", EntryFields(b"x"))
    entry = client.xadd(LANE, {"id": "7", "job": "1", "body": "x", "deadline": "soon"})
    # When that is buried
    plain.pipeline(bury(spec, LANE, entry, Death(REASON)))
    # Then the job still waits
    assert (await jobs.get(job_id)).state == "queued"
    assert client.xlen(LANE) == 1


async def test_a_job_that_is_answered_by_the_same_transaction_is_left_to_that(jobs, client, plain, spec):
    job_id = await jobs.submit("echo", "1.0", b"7", EntryFields(b"x"))
    [(entry, _)] = client.xrange(LANE)
    plain.pipeline(bury(spec, LANE, entry, Death("given up"), acknowledge=False))
    assert (await jobs.get(job_id)).state == "queued"


async def test_a_job_that_was_cancelled_meanwhile_stays_so(jobs, client, plain, spec):
    job_id = await jobs.submit("echo", "1.0", b"7", MALFORMED)
    [(entry, _)] = client.xrange(LANE)
    await jobs.cancel(job_id)
    plain.pipeline(bury(spec, LANE, entry, Death(REASON)))
    assert (await jobs.get(job_id)).state == "cancelled"


@pytest.mark.parametrize("fields", [{"id": b"\xff"}, {"id": "a", "data": "x"}, {"nothing": ""}])
def test_entries_without_a_job_are_buried_all_the_same(client, plain, spec, fields):
    entry = client.xadd(LANE, fields)
    plain.pipeline(bury(spec, LANE, entry, Death(REASON)))
    assert client.xlen(keys.dead_letters("echo")) == 1
    assert not list(client.scan_iter(keys.job("echo", "*")))


@pytest.mark.parametrize("named", ["reply", "replies"])
def test_a_producer_that_waits_for_a_reply_is_told(client, plain, spec, named):
    # Given an entry that is no request, and tells where it wants to be answered
    client.xgroup_create("answers", "readers", mkstream=True)
    fields = {"id": "7", named: "answers", "deadline": "soon", "body": "x"}
    entry = client.xadd(LANE, fields)
    error = malformed([part.encode() for pair in fields.items() for part in pair])
    # When it is refused
    plain.pipeline(refuse(spec, LANE, entry, error))
    # Then there is a reply, and the letter
    [(_, answered)] = plain.execute("XRANGE", "answers", "-", "+")
    [reply] = decode_replies(answered)
    assert (reply.id, reply.status, json.loads(reply.body)["message"]) == (b"7", 400, REASON)
    assert client.xlen(keys.dead_letters("echo")) == 1
    assert client.xlen(LANE) == 0


@pytest.mark.parametrize("stream", [keys.REGISTRY, "a-string"])
def test_a_reply_is_written_to_nothing_that_takes_none(client, plain, spec, stream):
    client.set("a-string", "x")
    entry = client.xadd(LANE, {"reply": stream, "body": "x"})
    error = MalformedEntry("wrong", [b"reply", stream.encode(), b"body", b"x"])
    plain.pipeline(refuse(spec, LANE, entry, error))
    assert client.ttl(keys.REGISTRY) == -1
    assert client.type(keys.REGISTRY) == b"hash"
    assert client.xlen(keys.dead_letters("echo")) == 1


# taking entries


def taken(client, held: bool) -> list[tuple[bytes, list[bytes]]]:
    found = []
    while entries := take(client, LANE, "taker", held):
        found += entries
        client.xack(LANE, keys.GROUP, *(entry for entry, _ in entries))
    return found


def test_waiting_entries_are_taken_and_those_of_a_replica_only_where_asked_for(client, spec):
    # Given entries that a replica holds, and others that wait: of both more than are taken at a time
    bodies = [b"%d" % number for number in range(3 * MOST_TAKEN)]
    for body in bodies:
        client.xadd(LANE, {"body": body})
    client.xreadgroup(keys.GROUP, "replica", {LANE: ">"}, count=MOST_TAKEN + 1)
    # Then these are taken, each once
    assert [fields for _, fields in taken(client, held=False)] == [
        [b"body", body] for body in bodies[MOST_TAKEN + 1 :]
    ]
    assert [fields for _, fields in taken(client, held=True)] == [
        [b"body", body] for body in bodies[: MOST_TAKEN + 1]
    ]


def test_an_entry_that_was_deleted_while_a_replica_held_it_is_not_taken(client, spec):
    deleted, kept = (client.xadd(LANE, {"body": body}) for body in ("a", "b"))
    client.xreadgroup(keys.GROUP, "replica", {LANE: ">"})
    client.xdel(LANE, deleted)
    assert [entry for entry, _ in taken(client, held=True)] == [kept]
