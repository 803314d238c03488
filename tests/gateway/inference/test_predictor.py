import asyncio
from dataclasses import replace

import pytest

from gateway.auth.tokens import FAILED
from marq import keys
from marq.connections import clients
from marq.errors import (
    InvalidToken,
    ModelNotFound,
    QueueFull,
    RequestTooLarge,
    ServiceUnavailable,
)
from marq.plugins.protocols import Access
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.parts import ReplyStream

NOBODY = Access("inference", "POST", "/predictions/m", [])
LIMIT = 1000  # of the predictor that `make` makes


def begin(predictor, body, request_id=b"1"):
    sink = ReplyStream()
    route = predictor._routes.find("m")
    predictor.begin(route, request_id, EntryFields(body, EntryHead(path=b"")), sink)
    return sink


async def test_the_answer_goes_to_the_sink(make, replica):
    reply = await asyncio.wait_for(begin(make(), b"abc").next(), 60)
    assert (reply.status, reply.body) == (200, b"cba")


async def test_limits_hold_for_every_sink(make):
    predictor = make()
    with pytest.raises(RequestTooLarge):
        begin(predictor, b"x" * (LIMIT + 1))
    for number in range(3):
        begin(predictor, b"x", b"%d" % number)
    with pytest.raises(QueueFull):
        begin(predictor, b"x", b"one too many")


async def test_a_cancelled_prediction_leaves_its_lane(make, redis_url):
    predictor = make()
    begin(predictor, b"abc")
    predictor.cancel(b"1")
    with clients.client(redis_url) as client:
        async with asyncio.timeout(60):
            while client.xinfo_stream(keys.lane("m", "1.0"))["entries-added"] == 0:
                await asyncio.sleep(0.01)
            while client.xlen(keys.lane("m", "1.0")):
                await asyncio.sleep(0.01)


async def test_a_model_that_is_not_there_is_not_found(make):
    with pytest.raises(ModelNotFound):
        await make().find(NOBODY, "other", None)


async def test_there_is_no_route_without_a_token_where_one_is_required(make):
    url, wrong = b"/predictions/m", [(b"authorization", b"Bearer wrong")]
    assert make().hot_route(url, []) is make()._routes.find("m")
    predictor = make(required=True)
    assert predictor.hot_route(url, wrong) is None
    with pytest.raises(InvalidToken, match=FAILED[:20]):
        await predictor.find(replace(NOBODY, headers=wrong), "m", None)
    with pytest.raises(InvalidToken):  # a client without a token learns nothing of models
        await predictor.find(replace(NOBODY, headers=wrong), "other", None)


async def test_nothing_is_queued_while_redis_is_away(make, redis_url):
    predictor = make()
    predictor._broker._commands = None
    with pytest.raises(ServiceUnavailable):
        begin(predictor, b"abc")
    assert predictor._routes.find("m").backlog.waiting == 0


async def test_predictions_and_jobs_count_the_same(make):
    predictor = make()
    room = predictor._routes.find("m").backlog.room
    used = []
    for number in range(2):
        left = room.left
        if number:
            await predictor.submit(predictor._routes.find("m"), EntryFields(b"x" * 100, EntryHead(path=b"")))
        else:
            begin(predictor, b"x" * 100)
        used.append(left - room.left)
    assert used == [100, 100]
    assert predictor._routes.find("m").backlog.waiting == 2


async def test_the_wait_of_a_job_of_a_model_that_is_gone_is_unknown(make):
    assert make().time_until("gone", "1.0", 3) is None
