"""Large bodies of predictions and jobs, which are files: who keeps them, and who removes them."""

import asyncio
from dataclasses import replace

import pytest
from support import wait_for

from gateway.auth.tokens import Tokens
from gateway.inference.predictor import Predictor
from marq import keys
from marq.connections import clients
from marq.errors import BadRequest, QueueFull, QueueUnavailable, RequestTooLarge
from marq.jobs.jobs import Jobs
from marq.jobs.transfer_urls import AllowedUrls
from marq.jobs.url_rules import UrlRules
from marq.payloads.job_files import JobFiles
from marq.payloads.job_uploads import JobUploads
from marq.payloads.place import Place
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.parts import ReplyStream

LARGE = b"x" * 100
LIMIT = 1000  # of the predictor that `make` makes
HEAD = EntryHead(path=b"")


@pytest.fixture
def files(tmp_path) -> JobFiles:
    return JobFiles(tmp_path / "jobs", 10)


@pytest.fixture
def keeping(make, files):
    """A predictor and the route of a model whose replicas share the store of job files."""
    make.jobs.stop()
    make.jobs = Jobs(make.broker, JobUploads(files, 10_000))
    route = make.routes.find("m")
    route.keeps_files = True
    return make(), route


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


async def test_a_large_body_of_a_job_is_a_file_that_its_entry_names(keeping, files, redis_url):
    predictor, route = keeping
    await predictor.submit(route, EntryFields(LARGE, HEAD))
    [stored], [entry] = files.all(), entries(redis_url)
    assert entry[b"body_ref"] == stored.ref
    assert (entry[b"size"], entry[b"store"]) == (b"100", files.identity.encode())
    assert files.load(stored.ref) == LARGE


async def test_a_small_body_of_a_job_is_in_its_entry_which_names_the_store_for_the_answer(
    keeping, files, redis_url
):
    predictor, route = keeping
    await predictor.submit(route, EntryFields(b"small", HEAD))
    [entry] = entries(redis_url)
    assert (entry[b"body"], entry[b"store"]) == (b"small", files.identity.encode())
    assert list(files.all()) == []


async def test_a_job_that_is_refused_leaves_no_file(keeping, files):
    predictor, route = keeping
    route.backlog.refuse("no memory")
    with pytest.raises(QueueFull, match="no memory"):
        await predictor.submit(route, EntryFields(LARGE, HEAD))
    assert list(files.all()) == []


async def test_the_same_job_twice_has_one_file(keeping, files):
    predictor, route = keeping
    first = await predictor.submit(route, EntryFields(LARGE, HEAD), "mine")
    assert await predictor.submit(route, EntryFields(LARGE, HEAD), "mine") == first
    [stored] = files.all()
    assert stored.request_id == first.partition(":")[2]


async def test_a_job_that_redis_may_have_queued_keeps_its_file(keeping, files, make):
    predictor, route = keeping
    make.broker._commands = None
    with pytest.raises(QueueUnavailable):
        await predictor.submit(route, EntryFields(LARGE, HEAD))
    assert len(list(files.all())) == 1


@pytest.mark.parametrize(
    ("name", "url", "body", "told"),
    [
        (b"input_url", b"https://a.example/x", b"own", "has no body of its own"),
        (b"input_url", b"https://a.example/x", b"", "no host is allowed"),
        (b"output_url", b"s3://other/x", b"own", "the bucket other is not allowed"),
    ],
)
async def test_a_job_with_a_url_that_is_not_for_it_is_refused(keeping, redis_url, name, url, body, told):
    predictor, route = keeping
    allowed = "s3://mine, a.example" if told.startswith("has") else "s3://mine"
    predictor.url_rules = UrlRules(transfers=AllowedUrls.parse(allowed))
    with pytest.raises(BadRequest, match=told):
        await predictor.submit(route, EntryFields(body, replace(HEAD, options=(name, url))))
    assert entries(redis_url) == []


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


async def test_the_wait_of_a_job_of_a_model_that_is_gone_is_unknown(make):
    assert make().time_until("gone", "1.0", 3) is None
