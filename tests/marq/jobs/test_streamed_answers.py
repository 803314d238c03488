"""Jobs whose answers come in parts."""

import asyncio

import pytest
from thread_replica import make_spec

from marq import keys
from marq.connections import clients
from marq.errors import StreamBroken
from marq.jobs.streamed_answers import parts_of
from marq.queue.entries import EntryFields, Request
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply

LANE = keys.lane("echo", "1.0")


class Streaming:
    """A replica that has taken one job, and sends what it is told to."""

    def __init__(self, client) -> None:
        self._client = client
        self._publisher = Publisher(make_spec(), "cpu", 60_000)

    def take(self) -> Request:
        [[_, [(entry, fields)]]] = self._client.xreadgroup(keys.GROUP, "replica", {LANE: ">"}, count=1)
        return Request(entry, LANE, fields[b"body"], fields[b"id"], job=b"1")

    def send(self, commands) -> None:
        clients.pipeline(self._client, commands)

    def stream(self, request: Request, number: int, body: bytes) -> None:
        self.send(self._publisher.parts([(request, Reply(request.id, 200, body, more=number))]))

    def end(self, request: Request, status: int, body: bytes) -> None:
        self.send(self._publisher.commands([(request, Reply(request.id, status, body))], 1))


@pytest.fixture
def replica(client):
    return Streaming(client)


async def submitted(jobs, replica) -> tuple[str, Request]:
    job_id = await jobs.submit("echo", "1.0", b"7", EntryFields(b"x"))
    return job_id, replica.take()


async def test_a_job_streams_to_a_reader_and_is_whole_afterwards(jobs, replica):
    job_id, request = await submitted(jobs, replica)
    replica.stream(request, 1, b"a")
    running = await jobs.wait(job_id, 5, or_streams=True)
    assert (running.state, running.status, running.parts) == ("running", 200, (b"a",))
    bodies = []
    async with asyncio.timeout(60):
        async for body in parts_of(jobs, job_id):
            bodies.append(body)
            if len(bodies) == 1:
                replica.stream(request, 2, b"b")
            elif len(bodies) == 2:
                replica.end(request, 200, b"c")
    assert bodies == [b"a", b"b", b"c"]
    assert (await jobs.get(job_id)).body == b"abc"


async def test_a_part_that_arrives_twice_is_kept_once(jobs, replica):
    job_id, request = await submitted(jobs, replica)
    for number in (1, 2, 2):
        replica.stream(request, number, b"%d" % number)
    assert (await jobs.get(job_id)).parts == (b"1", b"2")


async def test_a_replica_that_has_lost_the_job_adds_nothing(jobs, replica, client):
    job_id, request = await submitted(jobs, replica)
    replica.stream(request, 1, b"a")
    client.xack(LANE, keys.GROUP, request.entry)
    replica.stream(request, 2, b"late")
    assert (await jobs.get(job_id)).parts == (b"a",)


async def test_a_second_attempt_begins_anew_and_its_readers_notice(jobs, replica):
    job_id, request = await submitted(jobs, replica)
    replica.stream(request, 1, b"a")
    reader = parts_of(jobs, job_id)
    assert await anext(reader) == b"a"
    request.attempts = b"1"
    replica.stream(request, 1, b"again ")
    with pytest.raises(StreamBroken):
        await anext(reader)
    replica.end(request, 200, b"end")
    assert (await jobs.get(job_id)).body == b"again end"


async def test_a_failure_after_the_first_part_is_the_result(jobs, replica):
    job_id, request = await submitted(jobs, replica)
    replica.stream(request, 1, b"a")
    replica.end(request, 500, b"Worker died.")
    record = await jobs.get(job_id)
    assert (record.state, record.status, record.body) == ("failed", 500, b"Worker died.")
    with pytest.raises(StreamBroken):
        [body async for body in parts_of(jobs, job_id)]


async def test_what_a_producer_queued_itself_streams_too(jobs, replica, client):
    client.xadd(LANE, {"body": "x", "id": "9", "job": "1"})
    request = replica.take()
    replica.stream(request, 1, b"a")
    assert (await jobs.get("echo:9")).parts == (b"a",)
