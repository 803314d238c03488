"""Every step in the life of a request works where Redis has just forgotten its scripts."""

import pytest

from marq import keys
from marq.connections.blocking import Connection
from marq.jobs.jobs import Jobs
from marq.queue import depth
from marq.queue.broker import Broker
from marq.queue.dead_letters import DeadLetters
from marq.queue.entries import EntryFields, Request
from marq.queue.giving_up import Death, bury
from marq.queue.publishing import Publisher
from marq.queue.redelivery import requeue
from marq.queue.replies.entries import Reply
from marq.registry.reports import PoolReport, ReplicaReport

LANE = keys.lane("echo", "1.0")
CONSUMER = "replica"


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
    """The connection that replicas and pools use."""
    connection = Connection(redis_url)
    yield connection
    connection.close()


@pytest.fixture
def publisher(spec):
    return Publisher(spec, "cpu", 60_000)


@pytest.fixture
def taken(jobs, client):
    """Submits a job, has a replica take it, and makes Redis forget its scripts: the request."""

    async def taken() -> Request:
        await jobs.submit("echo", "1.0", b"7", EntryFields(b"x"))
        [[_, [(entry, fields)]]] = client.xreadgroup(keys.GROUP, CONSUMER, {LANE: ">"}, count=1)
        client.script_flush()
        return Request(entry, LANE, fields[b"body"], fields[b"id"], job=b"1")

    return taken


async def test_submit(jobs, client):
    client.script_flush()
    assert (await jobs.get(await jobs.submit("echo", "1.0", b"7", EntryFields(b"x")))).state == "queued"
    client.script_flush()
    await jobs.submit_many("echo", "1.0", [(b"%d" % number, EntryFields(b"x")) for number in range(10)])
    assert client.xlen(LANE) == 10  # job 7 is queued once


async def test_publish(jobs, plain, publisher, taken):
    request = await taken()
    plain.pipeline(publisher.commands([(request, Reply(request.id, 200, b"answer"))], 1))
    assert (await jobs.get("echo:7")).body == b"answer"


async def test_streamed_parts(jobs, plain, publisher, taken):
    request = await taken()
    parts = [(request, Reply(request.id, 200, b"part %d" % number, more=number)) for number in (1, 2)]
    plain.pipeline([command for part in parts for command in publisher.parts([part])])
    assert (await jobs.get("echo:7")).parts == (b"part 1", b"part 2")


async def test_cancel(jobs, client):
    job_id = await jobs.submit("echo", "1.0", b"7", EntryFields(b"x"))
    client.script_flush()
    assert await jobs.cancel(job_id)
    assert client.xlen(LANE) == 0


async def test_bury_and_replay(jobs, plain, client, spec, taken):
    # Given a job that was given up
    request = await taken()
    plain.pipeline(bury(spec, LANE, request.entry, Death("given up")))
    assert (await jobs.get("echo:7")).state == "failed"
    # When its letter is looked at and replayed, each by a Redis without scripts
    letters = DeadLetters(client)
    client.script_flush()
    [letter] = letters.page("echo", 10)
    client.script_flush()
    replayed = letters.replay("echo", [letter.id])
    # Then it is queued again
    assert list(replayed.jobs) == [letter.id]
    assert client.xlen(LANE) == 1


async def test_requeue(plain, client, spec, taken):
    await taken()
    assert requeue(plain, spec, CONSUMER, max_attempts=3) == []
    assert client.xlen(keys.lane("echo", "1.0", keys.FRONT)) == 1


def test_depth_and_reports(client, registry, spec):
    client.xadd(LANE, {"body": "x"})
    registry.report(
        spec, "pool", PoolReport("host", 1, replicas=(ReplicaReport(0, 1, "cpu", "ready", started=0.0),))
    )
    client.script_flush()
    assert depth.read(client, [spec])[spec.key].waiting == 1
    client.script_flush()
    assert [replica.state for replica in registry.snapshot().replicas(spec)] == ["ready"]
