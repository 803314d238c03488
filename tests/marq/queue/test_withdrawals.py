import asyncio

import pytest

from marq import keys
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields

LANE = keys.lane("echo", "1.0").encode()


@pytest.fixture
async def broker(redis_url, spec):
    broker = Broker(redis_url, "test")
    await broker.start()
    yield broker
    await broker.stop()


async def soon(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def predict(broker, request_id: bytes):
    return broker.predict(LANE, request_id, EntryFields(b"x"))


async def test_what_is_withdrawn_is_not_run_any_more(broker, client):
    future = predict(broker, b"1")
    await soon(lambda: future.entry)
    broker.withdraw(b"1")
    await soon(lambda: client.xlen(LANE) == 0)
    assert broker.in_flight == 0


async def test_what_is_withdrawn_at_once_is_taken_out_as_soon_as_it_is_in(broker, client):
    # Given one that is not even sent
    kept = predict(broker, b"1")
    predict(broker, b"2")
    broker.withdraw(b"2")
    # Then it does not stay in the queue, and the other one does
    await soon(lambda: broker.in_flight == 1)
    await soon(lambda: client.xlen(LANE) == 1)
    assert client.xrange(LANE)[0][0] == kept.entry


async def test_what_runs_when_it_is_withdrawn_is_not_run_again(broker, client):
    future = predict(broker, b"1")
    await soon(lambda: future.entry)
    client.xreadgroup(keys.GROUP, "replica", {LANE.decode(): ">"})
    broker.withdraw(b"1")
    await soon(lambda: client.xpending(LANE.decode(), keys.GROUP)["pending"] == 0)
    assert client.xlen(LANE) == 0


async def test_what_was_put_back_to_the_front_can_be_withdrawn(broker, client):
    future, front = predict(broker, b"1"), keys.front_of(LANE)
    await soon(lambda: future.entry)
    client.xdel(LANE, future.entry)
    others = [client.xadd(front, {"id": f"other {number}", "body": "x"}) for number in range(150)]
    client.xadd(front, {"body": "x", "id": "1"})
    broker.withdraw(b"1")
    await soon(lambda: client.xlen(front) == len(others))
    assert [entry for entry, _ in client.xrange(front)] == others


async def test_a_withdrawn_request_leaves_its_lane_also_after_scripts_were_flushed(broker, client):
    # Given a queued request
    future = predict(broker, b"1")
    await soon(lambda: future.entry)
    # When Redis has forgotten its scripts, and the request is withdrawn
    client.script_flush()
    broker.withdraw(b"1")
    # Then no replica gets it
    await soon(lambda: client.xlen(LANE.decode()) == 0)
