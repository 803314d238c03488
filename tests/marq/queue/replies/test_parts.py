"""Answers in parts, between Redis and whoever reads them."""

import asyncio

import pytest

from marq import keys
from marq.errors import StreamBroken
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import MOST_UNREAD

LANE = keys.lane("echo", "1.0")


@pytest.fixture
async def broker(redis_url, spec):
    broker = Broker(redis_url, "test")
    await broker.start()
    yield broker
    await broker.stop()


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
