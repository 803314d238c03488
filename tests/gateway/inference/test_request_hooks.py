import asyncio

import pytest

from gateway.inference.answer import Inference
from gateway.inference.request_hooks import ObservedSink
from gateway.inference.urls import Target
from marq import keys
from marq.connections import clients
from marq.errors import BadRequest, QueueFull, ServiceError, ServiceUnavailable
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import ReplyStream, WholeReply


class Recorder:
    """A hook that notes what it sees, in the order in which it sees it."""

    def __init__(self, name, seen, before=None, after=None):
        self.name, self.seen, self.errors = name, seen, (before, after)

    def before(self, route, fields):
        self.seen.append((self.name, "before", fields.body))
        if self.errors[0]:
            raise self.errors[0]

    def after(self, route, fields, end):
        assert end.seconds >= 0
        self.seen.append((self.name, "after", end.status))
        if self.errors[1]:
            raise self.errors[1]


@pytest.fixture
def seen():
    return []


@pytest.fixture
def hook(seen):
    return Recorder("hook", seen)


def begin(predictor, body=b"abc", request_id=b"1", sink=None):
    sink = sink or ReplyStream()
    predictor.begin(predictor._routes.find("m"), request_id, EntryFields(body, EntryHead(path=b"")), sink)
    return sink


async def next_of(sink):
    return await asyncio.wait_for(sink.next(), 60)


async def test_hooks_see_each_prediction_the_last_hook_first_on_the_way_back(make, replica, seen):
    predictor = make([Recorder("outer", seen), Recorder("inner", seen)])
    assert (await next_of(begin(predictor, b"?"))).status == 418
    assert seen == [
        ("outer", "before", b"?"), ("inner", "before", b"?"),
        ("inner", "after", 418), ("outer", "after", 418),
    ]  # fmt: skip


async def test_a_hook_may_refuse_a_prediction_and_the_hooks_before_it_see_the_refusal(make, seen, redis_url):
    predictor = make(
        [Recorder("outer", seen), Recorder("inner", seen, BadRequest("no")), Recorder("x", seen)]
    )
    with pytest.raises(BadRequest, match="no"):
        begin(predictor)
    assert seen == [("outer", "before", b"abc"), ("inner", "before", b"abc"), ("outer", "after", 400)]
    with clients.client(redis_url) as client:
        assert client.xlen(keys.lane("m", "1.0")) == 0
    assert predictor._routes.find("m").backlog.waiting == 0


async def test_a_hook_that_fails_before_a_prediction_refuses_it_with_500(make, seen, caplog):
    with pytest.raises(ServiceError, match="Internal server error") as failure:
        begin(make([Recorder("outer", seen), Recorder("inner", seen, KeyError("its own"))]))
    assert failure.value.status == 500
    assert seen[-1] == ("outer", "after", 500)
    assert "a hook failed before a prediction for m" in caplog.text


async def test_a_hook_that_fails_after_a_prediction_changes_no_answer(make, replica, seen, caplog):
    predictor = make([Recorder("outer", seen), Recorder("inner", seen, after=KeyError("its own"))])
    assert (await next_of(begin(predictor))).body == b"cba"
    assert seen[2:] == [("inner", "after", 200), ("outer", "after", 200)]
    assert "a hook failed after a prediction for m" in caplog.text
    assert (await next_of(begin(predictor, b"next", b"2"))).body == b"txen"


async def test_a_full_queue_ends_a_prediction(make, seen, hook):
    predictor = make([hook])
    for number in range(3):
        begin(predictor, request_id=b"%d" % number)
    seen.clear()
    with pytest.raises(QueueFull):
        begin(predictor, request_id=b"one too many")
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 503)]


async def test_nothing_can_be_queued_while_redis_is_gone(make, seen, hook):
    make.broker._on_lost(make.broker._commands)
    with pytest.raises(ServiceUnavailable):
        begin(make([hook]))
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 503)]


async def test_redis_is_lost_while_a_prediction_waits(make, seen, hook, redis_url):
    sink = begin(make([hook]))
    with clients.client(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises((ServiceUnavailable, ConnectionError)):
        await next_of(sink)
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 503)]


async def test_a_cancelled_prediction_ends_once_with_499(make, seen, hook):
    predictor = make([hook])
    begin(predictor)
    predictor.cancel(b"1")
    predictor.cancel(b"1")
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 499)]


async def test_a_prediction_that_was_answered_cannot_be_cancelled(make, replica, seen, hook):
    predictor = make([hook])
    await next_of(begin(predictor))
    predictor.cancel(b"1")
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 200)]


async def test_a_sink_that_takes_nothing_more_still_has_an_end(make, replica, seen, hook):
    sink = WholeReply(loop=asyncio.get_running_loop())
    sink.cancel()
    begin(make([hook]), sink=sink)
    async with asyncio.timeout(60):
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 200)]


async def test_a_job_ends_when_it_is_queued_or_refused(make, seen, hook):
    predictor = make([hook])
    route = predictor._routes.find("m")
    await predictor.submit(route, EntryFields(b"abc", EntryHead(path=b"")))
    with pytest.raises(ServiceError):
        await predictor.submit(route, EntryFields(b"x" * 2000, EntryHead(path=b"")))
    make.broker._on_lost(make.broker._commands)
    with pytest.raises(ServiceUnavailable):
        await predictor.submit(route, EntryFields(b"abc", EntryHead(path=b"")), "key")
    assert [event[2] for event in seen if event[1] == "after"] == [202, 413, 503]


def test_the_status_of_a_streamed_answer_is_that_of_its_first_part():
    ends, stream = [], ReplyStream()
    sink = ObservedSink(stream, lambda status, size: ends.append(status))
    for number in (1, 2):
        sink.set_part(Reply(b"1", 206, b"part", more=number))
    assert ends == []
    sink.set_result(Reply(b"1", 200, b"last"))
    assert ends == [206]
    ObservedSink(ReplyStream(), lambda status, size: ends.append(status)).set_exception(
        ServiceUnavailable("gone")
    )
    ObservedSink(ReplyStream(), lambda status, size: ends.append(status)).set_exception(
        ConnectionError("gone")
    )
    assert ends == [206, 503, 500]


class Client:
    """The client of one ASGI request, which may go away."""

    def __init__(self, headers=()):
        self.scope = {
            "type": "http", "method": "POST", "path": "/predictions/m", "headers": list(headers),
            "query_string": b"",
        }  # fmt: skip
        self.sent = []
        self._messages = asyncio.Queue()
        self._messages.put_nowait({"type": "http.request", "body": b"abc"})

    async def ask(self, inference):
        await inference(self.scope, self._messages.get, self._send, Target("m", path=""))
        return self.sent[0]["status"]

    def go(self):
        self._messages.put_nowait({"type": "http.disconnect"})

    async def _send(self, message):
        self.sent.append(message)


async def test_the_endpoint_of_other_requests_ends_each_prediction_once(make, replica, seen, hook):
    inference = Inference(make([hook]), make.routes, 10)
    assert await asyncio.wait_for(Client().ask(inference), 60) == 200
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 200)]


async def test_a_time_out_of_the_client_ends_a_prediction_with_its_status(make, seen, hook):
    client = Client([(b"x-request-timeout", b"0.05")])
    status = await asyncio.wait_for(client.ask(Inference(make([hook]), make.routes, 10)), 60)
    assert seen == [("hook", "before", b"abc"), ("hook", "after", status)]
    assert status >= 500


async def test_a_client_of_the_endpoint_that_goes_away_ends_its_prediction_with_499(make, seen, hook):
    client = Client()
    asking = asyncio.create_task(client.ask(Inference(make([hook]), make.routes, 10)))
    async with asyncio.timeout(60):
        while not seen:
            await asyncio.sleep(0.01)
        client.go()
        await asking
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 499)]


async def test_so_does_the_end_of_the_server(make, seen, hook):
    asking = asyncio.create_task(Client().ask(Inference(make([hook]), make.routes, 10)))
    async with asyncio.timeout(60):
        while not seen:
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert seen == [("hook", "before", b"abc"), ("hook", "after", 499)]
