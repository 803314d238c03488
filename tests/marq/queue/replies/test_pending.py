import asyncio

import pytest

from marq.errors import QueueUnavailable, StreamBroken
from marq.queue.entries import EntryRef
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import ReplyStream, WholeReply
from marq.queue.replies.pending import PendingRequests

LANE = b"lane"


@pytest.fixture
def pending():
    return PendingRequests()


@pytest.fixture
def add(pending):
    async def add(request_id: bytes) -> WholeReply:
        waiting = WholeReply(loop=asyncio.get_running_loop())
        pending.add(request_id, LANE, waiting)
        return waiting

    return add


async def test_a_reply_resolves_its_request_and_no_other(pending, add):
    first, second = await add(b"1"), await add(b"2")
    pending.reply(Reply(b"1", 200, b"one"))
    assert (await first).body == b"one"
    assert not second.done() and len(pending) == 1


async def test_a_reply_that_is_not_awaited_is_ignored(pending, add):
    await add(b"1")
    pending.forget(b"1")
    pending.reply(Reply(b"1", 200, b"late"))
    pending.reply(Reply(b"unknown", 200, b"", more=1))
    assert len(pending) == 0


async def test_a_request_is_located_once_redis_has_queued_it(pending, add):
    await add(b"1"), await add(b"2")
    pending.locate(b"1", b"1-0")
    assert pending.queued() == {b"1": EntryRef(LANE, b"1-0")}


async def test_a_cancelled_request_is_taken_out_of_its_lane(pending, add):
    taken_out = []
    await add(b"1")
    pending.locate(b"1", b"1-0")
    pending.cancel(b"1", lambda *where: taken_out.append(where))
    assert taken_out == [(b"1", EntryRef(LANE, b"1-0"))]
    assert len(pending) == 0


async def test_a_request_that_is_cancelled_before_it_is_located_is_taken_out_then(pending, add):
    # Given a request that Redis has not queued yet
    taken_out = []
    await add(b"1")
    # When it is cancelled
    pending.cancel(b"1", lambda *where: taken_out.append(where))
    assert taken_out == []
    # Then it is taken out as soon as its entry is known, once
    pending.locate(b"1", b"1-0")
    pending.locate(b"1", b"1-0")
    assert taken_out == [(b"1", EntryRef(LANE, b"1-0"))]


async def test_a_cancelled_request_that_redis_refuses_is_not_taken_out(pending, add):
    await add(b"1")
    pending.cancel(b"1", lambda *_: pytest.fail("there is no entry"))
    pending.fail(b"1", QueueUnavailable("full"))
    pending.locate(b"1", b"1-0")
    assert len(pending) == 0


async def test_a_failure_reaches_its_request_alone(pending, add):
    refused, other = await add(b"1"), await add(b"2")
    pending.fail(b"1", QueueUnavailable("full"))
    with pytest.raises(QueueUnavailable, match="full"):
        await refused
    assert not other.done()


async def test_all_pending_requests_can_fail_at_once(pending, add):
    waiting = [await add(b"%d" % number) for number in range(3)]
    pending.fail_all(QueueUnavailable("stopping"))
    for each in waiting:
        with pytest.raises(QueueUnavailable):
            await each
    assert len(pending) == 0


async def test_parts_out_of_order_cut_an_answer_off(pending):
    stream = ReplyStream()
    pending.add(b"1", LANE, stream)
    pending.reply(Reply(b"1", 200, b"a", more=1))
    pending.reply(Reply(b"1", 200, b"c", more=3))
    assert (await stream.next()).body == b"a"
    with pytest.raises(StreamBroken):
        await stream.next()
    assert len(pending) == 0
