"""Answers in parts, between Redis and whoever reads them."""

import asyncio

import pytest
from thread_replica import make_spec

from marq import keys
from marq.connections import clients
from marq.errors import StreamBroken
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, Reply, Request
from marq.queue.jobs import Jobs
from marq.queue.publishing import Publisher
from marq.queue.reply_stream import MOST_UNREAD

LANE = keys.lane("echo", "1.0")


@pytest.fixture
async def broker(redis_url, spec):
    broker = Broker(redis_url, "test")
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def jobs(broker):
    jobs = Jobs(broker)
    yield jobs
    jobs.stop()


def reply_to(client, *replies: Reply) -> None:
    flat = [part for reply in replies for part in reply.fields()]
    client.execute_command("XADD", keys.replies("test"), "*", *flat)


def part(number: int, body: bytes, status: int = 200) -> Reply:
    return Reply(b"1", status, body, b'{"x-a": "b"}' if number == 1 else b"", more=number)


def in_parts(broker):
    return broker.predict_in_parts(LANE.encode(), b"1", EntryFields(b"x"))


async def read(stream) -> list[bytes]:
    bodies = []
    async with asyncio.timeout(60):
        while (reply := await stream.next()).more:
            bodies.append(reply.body)
    return [*bodies, reply.body]


async def test_parts_come_in_order_and_end_with_the_last(broker, client):
    stream = in_parts(broker)
    reply_to(client, part(1, b"a"), part(2, b"b"))
    reply_to(client, part(3, b"c"), Reply(b"1", 200, b"end"))
    assert await read(stream) == [b"a", b"b", b"c", b"end"]
    assert broker.in_flight == 0


async def test_parts_that_were_sent_twice_are_passed_on_once(broker, client):
    stream = in_parts(broker)
    reply_to(client, part(1, b"a"), part(2, b"b"), part(3, b"c"))
    reply_to(client, part(2, b"b"), part(3, b"c"), part(4, b"d"), Reply(b"1", 200, b"end"))
    assert await read(stream) == [b"a", b"b", b"c", b"d", b"end"]


async def test_who_asks_for_the_whole_gets_all_parts_with_the_first_ones_headers(broker, client):
    future = broker.predict(LANE.encode(), b"1", EntryFields(b"x"))
    reply_to(client, part(1, b"a", 201), part(2, b"b", 201), Reply(b"1", 200, b"end"))
    reply = await asyncio.wait_for(future, 60)
    assert (reply.status, reply.body, reply.headers) == (201, b"abend", b'{"x-a": "b"}')


@pytest.mark.parametrize(
    "second", [part(1, b"a"), part(3, b"c"), Reply(b"1", 500, b"Worker died.")],
    ids=["it begins anew", "a part is missing", "it fails"],
)  # fmt: skip
async def test_what_does_not_follow_cuts_the_answer_off(broker, client, second):
    stream, whole = in_parts(broker), None
    reply_to(client, part(1, b"a"), second, Reply(b"1", 200, b"late"))
    with pytest.raises(StreamBroken):
        await read(stream)
    whole = broker.predict(LANE.encode(), b"1", EntryFields(b"x"))
    reply_to(client, part(1, b"a"), second)
    with pytest.raises(StreamBroken):
        await asyncio.wait_for(whole, 60)


async def test_an_error_that_streams_from_the_beginning_is_complete(broker, client):
    stream = in_parts(broker)
    reply_to(client, part(1, b"not ", 503), Reply(b"1", 503, b"now"))
    assert await read(stream) == [b"not ", b"now"]


async def test_a_reader_that_is_much_slower_than_the_handler_is_cut_off(broker, client):
    stream = in_parts(broker)
    size = MOST_UNREAD // 4
    for number in range(1, 7):
        reply_to(client, part(number, bytes(size)))
    reply_to(client, Reply(b"1", 200, b"end"))
    async with asyncio.timeout(60):
        while broker.last_reply != client.xinfo_stream(keys.replies("test"))["last-generated-id"]:
            await asyncio.sleep(0.01)
    with pytest.raises(StreamBroken, match="not read"):
        await read(stream)


# jobs


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
        async for body in jobs.stream(job_id):
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
    reader = jobs.stream(job_id)
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
        [body async for body in jobs.stream(job_id)]


async def test_what_a_producer_queued_itself_streams_too(jobs, replica, client):
    client.xadd(LANE, {"body": "x", "id": "9", "job": "1"})
    request = replica.take()
    replica.stream(request, 1, b"a")
    assert (await jobs.get("echo:9")).parts == (b"a",)
