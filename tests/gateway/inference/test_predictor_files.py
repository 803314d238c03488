"""Large bodies of predictions, which are files: who keeps them, and who removes them."""

import asyncio

import pytest
from support import wait_for

from gateway.auth.tokens import Tokens
from gateway.inference.predictor import Predictor
from marq import keys
from marq.connections import clients
from marq.errors import QueueFull, RequestTooLarge
from marq.jobs.jobs import Jobs
from marq.payloads.place import Place
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.parts import ReplyStream

LARGE = b"x" * 100
LIMIT = 1000  # of the predictor that `make` makes
HEAD = EntryHead(path=b"")


@pytest.fixture
async def sharing(make, redis_url, tmp_path):
    """A predictor, the route of a model whose replicas share its folder, and the folder."""
    broker = Broker(redis_url, place=Place(tmp_path / "payloads", 10, 500))
    await broker.start()
    route = make.routes.find("m")
    route.shares_files = True
    jobs = Jobs(broker)
    yield Predictor(make.routes, broker, jobs, Tokens(required=False), LIMIT), route, broker.folder
    jobs.stop()
    await broker.stop()


def entries(redis_url) -> list[dict[bytes, bytes]]:
    with clients.client(redis_url) as client:
        return [fields for _, fields in client.xrange(keys.lane("m", "1.0"))]


async def test_a_large_body_of_a_prediction_is_a_file_until_the_request_is_forgotten(sharing, redis_url):
    predictor, route, folder = sharing
    sink = ReplyStream()
    predictor.begin(route, b"1", EntryFields(LARGE, HEAD), sink)
    await asyncio.to_thread(wait_for, lambda: entries(redis_url))
    [entry] = entries(redis_url)
    assert folder.place.load(entry[b"body_ref"]) == LARGE
    predictor.cancel(b"1")
    file = folder.place.directory / entry[b"body_ref"].decode()
    await asyncio.to_thread(wait_for, lambda: not file.exists())


async def test_a_file_for_a_body_that_arrives_is_begun_only_where_the_request_can_be_queued(sharing, make):
    predictor, route, _ = sharing
    assert predictor.begin_upload(route, b"1", LIMIT + 1) is None
    assert predictor.begin_upload(route, b"2", 501) is None, "larger than all files of the gateway may be"
    route.unavailable = "no worker"
    assert predictor.begin_upload(route, b"3", 100) is None
    route.unavailable = ""
    route.shares_files = False
    assert predictor.begin_upload(route, b"4", 100) is None
    route.shares_files = True
    assert predictor.begin_upload(route, b"5", 100) is not None
    predictor.cancel(b"5")


async def test_a_body_that_is_too_large_is_refused_where_files_are_shared_too(sharing):
    predictor, route, _ = sharing
    with pytest.raises(RequestTooLarge):
        predictor.begin(route, b"1", EntryFields(b"x" * (LIMIT + 1), HEAD), ReplyStream())
    with pytest.raises(QueueFull):
        predictor.begin(route, b"2", EntryFields(b"x" * 501, HEAD), ReplyStream())
    assert route.backlog.waiting == 0
