import asyncio

import pytest
from thread_replica import ThreadReplica, make_spec

from gateway.auth import FAILED, Tokens
from gateway.inference.predictor import Predictor, entry_fields
from gateway.routing.routes import Routes
from marq import keys
from marq.connections import clients
from marq.errors import (
    BadRequest,
    InvalidToken,
    ModelNotFound,
    QueueFull,
    RequestTooLarge,
    ServiceUnavailable,
)
from marq.queue.broker import Broker
from marq.queue.entries import Reply
from marq.queue.reply_stream import ReplyStream
from marq.registry.models import Registry
from marq.settings.fields import Settings

SPEC = make_spec("m", min_workers=1, max_workers=1, job_queue_size=3)
LIMIT = 1000


class Recorder:
    """A hook that notes what it sees, in the order in which it sees it."""

    def __init__(self, name, seen, refusal=None):
        self.name, self.seen, self.refusal = name, seen, refusal

    def before(self, route, fields):
        self.seen.append((self.name, "before", route.spec.name, fields.body))
        if self.refusal:
            raise self.refusal

    def after(self, route, fields, status, seconds):
        self.seen.append((self.name, "after", route.spec.name, status))


@pytest.fixture
async def make(redis_url):
    """A predictor over a real broker: make(hooks=..., required=...)."""
    with clients.client(redis_url) as client:
        Registry(client).register(SPEC)
    routes, broker = Routes(Settings(redis_url=redis_url)), Broker(redis_url)
    await broker.start()
    await routes.refresh()
    yield lambda hooks=(), required=False: Predictor(routes, broker, Tokens(required), LIMIT, hooks)
    await broker.stop()


@pytest.fixture
def replica(redis_url):
    """Answers with the body, backwards; a body of `?` with status 418."""

    def answer(request):
        return Reply(request.id, 418 if request.body == b"?" else 200, request.body[::-1])

    replica = ThreadReplica(redis_url, SPEC, answer)
    yield replica
    replica.stop()


def begin(predictor, body, request_id=b"1"):
    sink = ReplyStream()
    route = predictor.find("m", None)
    predictor.begin(route, request_id, entry_fields([], body, ""), sink)
    return sink


async def test_the_answer_goes_to_the_sink(make, replica):
    reply = await asyncio.wait_for(begin(make(), b"abc").next(), 10)
    assert (reply.status, reply.body) == (200, b"cba")


async def test_hooks_see_each_prediction_the_last_hook_first_on_the_way_back(make, replica):
    # Given two hooks
    seen = []
    predictor = make([Recorder("outer", seen), Recorder("inner", seen)])
    # When a prediction is answered
    reply = await asyncio.wait_for(begin(predictor, b"?").next(), 10)
    # Then both have seen it and its status
    assert reply.status == 418
    assert seen == [
        ("outer", "before", "m", b"?"), ("inner", "before", "m", b"?"),
        ("inner", "after", "m", 418), ("outer", "after", "m", 418),
    ]  # fmt: skip


async def test_a_hook_may_refuse_a_prediction_which_is_not_queued_then(make, redis_url):
    with pytest.raises(BadRequest, match="no"):
        begin(make([Recorder("outer", [], BadRequest("no"))]), b"abc")
    with clients.client(redis_url) as client:
        assert client.xlen(keys.lane("m", SPEC.version)) == 0


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
            while client.xinfo_stream(keys.lane("m", SPEC.version))["entries-added"] == 0:
                await asyncio.sleep(0.01)
            while client.xlen(keys.lane("m", SPEC.version)):
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
