import asyncio

import pytest

from marq import keys
from marq.connections import clients
from marq.errors import QueueUnavailable
from marq.queue import broker as broker_module
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.lost_requests import LostRequests
from marq.queue.replies.entries import Reply

LANE = keys.lane("echo", "1.0")
FRONT = keys.lane("echo", "1.0", keys.FRONT)


@pytest.fixture
async def broker(redis_url, spec):
    broker = Broker(redis_url, "test")
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def looked_twice(broker):
    """Looks for lost requests as often as it takes to judge one."""
    lost = LostRequests(grace_s=0.05)

    async def look() -> None:
        await lost.look(broker)
        await lost.look(broker)

    return look


async def queued(broker, request_id: bytes = b"1"):
    future = broker.predict(LANE.encode(), request_id, EntryFields(b"x"))
    async with asyncio.timeout(60):
        while not future.entry:
            await asyncio.sleep(0.005)
    return future


def reply_to(client, reply: Reply) -> None:
    client.execute_command("XADD", keys.replies("test"), "*", *reply.fields())


async def test_a_request_that_redis_has_lost_fails_with_503_and_when_to_try_again(
    broker, client, looked_twice
):
    future, other = await queued(broker), await queued(broker, b"2")
    client.xdel(LANE, future.entry)
    await looked_twice()
    with pytest.raises(QueueUnavailable, match="Redis has lost the request") as caught:
        await future
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    assert not other.done()
    assert broker.in_flight == 1


async def test_a_request_is_not_judged_before_the_second_look(broker, client):
    future = await queued(broker)
    client.xdel(LANE, future.entry)
    await LostRequests(grace_s=0.0).look(broker)
    assert not future.done()


async def test_what_a_replica_holds_is_not_lost(broker, client, looked_twice):
    future = await queued(broker)
    assert client.xreadgroup(keys.GROUP, "c", {LANE: ">"})
    await looked_twice()
    assert not future.done()


async def test_what_was_put_back_to_the_front_is_not_lost(broker, client, looked_twice):
    # Given more entries than are looked at at a time
    futures = [await queued(broker, b"%d" % number) for number in range(250)]
    assert client.xreadgroup(keys.GROUP, "c", {LANE: ">"}, count=250)
    # When their replica is lost
    requeue = scripts.REQUEUE.call([FRONT, LANE], keys.GROUP, "c", 3, keys.job("echo", ""))
    assert clients.run(client, requeue) == []
    assert client.xlen(FRONT) == 250
    # Then none of them fails
    await looked_twice()
    assert not any(future.done() for future in futures)
    # And one that is lost there does
    client.xdel(FRONT, client.xrevrange(FRONT, count=1)[0][0])
    await looked_twice()
    assert [number for number, future in enumerate(futures) if future.done()] == [249]


async def test_an_answer_that_was_written_but_not_yet_read_is_waited_for(broker, client, looked_twice):
    # Given a reply that the broker does not get to read
    future = await queued(broker)
    broker._replies._transport.pause_reading()
    reply_to(client, Reply(b"1", 200, b"late"))
    client.xdel(LANE, future.entry)
    # When it looks, then the request is not failed
    await looked_twice()
    assert not future.done()
    # And the reply is heard as soon as it can be
    broker._replies._transport.resume_reading()
    assert (await asyncio.wait_for(future, 60)).body == b"late"


async def test_a_broker_looks_by_itself(redis_url, client, spec, monkeypatch):
    monkeypatch.setattr(broker_module, "KEEP_EVERY_S", 0.05)
    broker = Broker(redis_url)
    await broker.start()
    future = await queued(broker)
    client.delete(LANE)
    with pytest.raises(QueueUnavailable, match="lost"):
        await asyncio.wait_for(future, 60)
    await broker.stop()
