"""Which jobs are taken, and large bodies of jobs, which are files: who keeps them, and who removes them."""

from dataclasses import replace

import pytest

from gateway.inference.job_intake import JobIntake
from gateway.uploads import Uploads
from marq import keys
from marq.connections import clients
from marq.errors import BadRequest, QueueFull, QueueUnavailable, RequestTooLarge, ServiceUnavailable
from marq.jobs.jobs import Jobs
from marq.jobs.transfer_urls import AllowedUrls
from marq.jobs.url_rules import UrlRules
from marq.payloads.job_files import JobFiles
from marq.payloads.job_uploads import JobUploads
from marq.queue.entries import EntryFields, EntryHead

LARGE = b"x" * 100
LIMIT = 1000  # of a body
HEAD = EntryHead(path=b"")
NO_URLS = UrlRules()


def make_intake(jobs: Jobs, url_rules: UrlRules = NO_URLS) -> JobIntake:
    return JobIntake(jobs, Uploads(2**20, LIMIT), url_rules, LIMIT)


@pytest.fixture
def route(make):
    return make.routes.find("m")


@pytest.fixture
def intake(make):
    return make_intake(make.jobs)


@pytest.fixture
def files(tmp_path) -> JobFiles:
    return JobFiles(tmp_path / "jobs", 10)


@pytest.fixture
def keeping(make, files, route):
    """The intake of a gateway that shares the store of job files with the replicas of the model."""
    make.jobs.stop()
    make.jobs = Jobs(make.broker, JobUploads(files, 10_000))
    route.keeps_files = True
    return make_intake(make.jobs)


def entries(redis_url) -> list[dict[bytes, bytes]]:
    with clients.client(redis_url) as client:
        return [fields for _, fields in client.xrange(keys.lane("m", "1.0"))]


async def test_limits_hold_for_jobs_too(intake, route):
    with pytest.raises(RequestTooLarge):
        await intake.submit(route, EntryFields(b"x" * (LIMIT + 1), HEAD))
    route.backlog.refuse("no memory")
    with pytest.raises(QueueFull, match="no memory"):
        await intake.submit(route, EntryFields(b"abc", HEAD))


async def test_the_same_key_is_the_same_job_and_counts_once_also_where_no_new_one_is_taken(
    intake, route, redis_url
):
    fields = EntryFields(b"abc", HEAD)
    job = await intake.submit(route, fields, "mine")
    assert await intake.submit(route, fields, "mine") == job
    assert route.backlog.waiting == 1
    route.backlog.refuse("no memory")
    assert await intake.submit(route, fields, "mine") == job
    with pytest.raises(QueueFull):
        await intake.submit(route, fields, "another")
    assert len(entries(redis_url)) == 1


async def test_a_job_that_redis_cannot_take_does_not_count(intake, route, make):
    make.broker._on_lost(make.broker._commands)
    for key in ("", "mine"):
        with pytest.raises(ServiceUnavailable):
            await intake.submit(route, EntryFields(b"abc", HEAD), key)
    assert route.backlog.waiting == 0


async def test_a_large_body_of_a_job_is_a_file_that_its_entry_names(keeping, route, files, redis_url):
    await keeping.submit(route, EntryFields(LARGE, HEAD))
    [stored], [entry] = files.all(), entries(redis_url)
    assert entry[b"body_ref"] == stored.ref
    assert (entry[b"size"], entry[b"store"]) == (b"100", files.identity.encode())
    assert files.load(stored.ref) == LARGE


async def test_a_small_body_of_a_job_is_in_its_entry_which_names_the_store_for_the_answer(
    keeping, route, files, redis_url
):
    await keeping.submit(route, EntryFields(b"small", HEAD))
    [entry] = entries(redis_url)
    assert (entry[b"body"], entry[b"store"]) == (b"small", files.identity.encode())
    assert list(files.all()) == []


async def test_a_job_that_is_refused_leaves_no_file(keeping, route, files):
    route.backlog.refuse("no memory")
    with pytest.raises(QueueFull, match="no memory"):
        await keeping.submit(route, EntryFields(LARGE, HEAD))
    assert list(files.all()) == []


async def test_the_same_job_twice_has_one_file(keeping, route, files):
    first = await keeping.submit(route, EntryFields(LARGE, HEAD), "mine")
    assert await keeping.submit(route, EntryFields(LARGE, HEAD), "mine") == first
    [stored] = files.all()
    assert stored.request_id == first.partition(":")[2]


async def test_a_job_that_redis_may_have_queued_keeps_its_file(keeping, route, files, make):
    make.broker._commands = None
    with pytest.raises(QueueUnavailable):
        await keeping.submit(route, EntryFields(LARGE, HEAD))
    assert len(list(files.all())) == 1


@pytest.mark.parametrize(
    ("name", "url", "body", "told"),
    [
        (b"input_url", b"https://a.example/x", b"own", "has no body of its own"),
        (b"input_url", b"https://a.example/x", b"", "no host is allowed"),
        (b"output_url", b"s3://other/x", b"own", "the bucket other is not allowed"),
    ],
)
async def test_a_job_with_a_url_that_is_not_for_it_is_refused(make, route, redis_url, name, url, body, told):
    allowed = "s3://mine, a.example" if told.startswith("has") else "s3://mine"
    intake = make_intake(make.jobs, UrlRules(transfers=AllowedUrls.parse(allowed)))
    with pytest.raises(BadRequest, match=told):
        await intake.submit(route, EntryFields(body, replace(HEAD, options=(name, url))))
    assert entries(redis_url) == []
