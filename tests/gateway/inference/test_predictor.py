import asyncio

import pytest

from gateway.auth import FAILED
from gateway.inference.predictor import entry_fields
from marq import keys
from marq.connections import clients
from marq.errors import (
    InvalidToken,
    ModelNotFound,
    QueueFull,
    RequestTooLarge,
    ServiceUnavailable,
)
from marq.queue.reply_stream import ReplyStream

LIMIT = 1000  # of the predictor that `make` makes


def begin(predictor, body, request_id=b"1"):
    sink = ReplyStream()
    route = predictor.find("m", None)
    predictor.begin(route, request_id, entry_fields([], body, ""), sink)
    return sink


async def test_the_answer_goes_to_the_sink(make, replica):
    reply = await asyncio.wait_for(begin(make(), b"abc").next(), 10)
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
        async with asyncio.timeout(10):
            while client.xinfo_stream(keys.lane("m", "1.0"))["entries-added"] == 0:
                await asyncio.sleep(0.01)
            while client.xlen(keys.lane("m", "1.0")):
                await asyncio.sleep(0.01)


async def test_a_model_that_is_not_there_is_not_found(make):
    with pytest.raises(ModelNotFound):
        make().find("other", None)


async def test_a_request_without_a_token_is_refused_where_one_is_required(make):
    make().authorize([])
    with pytest.raises(InvalidToken, match=FAILED[:20]):
        make(required=True).authorize([(b"authorization", b"Bearer wrong")])


async def test_nothing_is_queued_while_redis_is_away(make, redis_url):
    predictor = make()
    predictor._broker._commands = None
    with pytest.raises(ServiceUnavailable):
        begin(predictor, b"abc")
    assert predictor.find("m", None).backlog.waiting == 0
