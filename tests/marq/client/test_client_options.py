"""Options, lists and cancelling of many through the clients."""

import time

import pytest
from thread_replica import make_spec

from marq import keys
from marq.client import AsyncClient, Client
from marq.errors import BadRequest, Conflict
from marq.queue.replies.entries import Reply


@pytest.fixture
def sync(redis_url, spec):
    with Client(redis_url) as client:
        yield client


def test_options_reach_the_entry_and_its_lane(sync, client):
    sync.submit("echo", b"x", priority="low", tags=["night"], retries=2, path="a/b", explain=True)
    [(_, fields)] = client.xrange(keys.lane("echo", "1.0", keys.LOW))
    assert (fields[b"tags"], fields[b"retries"], fields[b"path"]) == (b"night", b"2", b"a/b")
    assert fields[b"headers"] == b'{"explain": "True"}'
    sync.submit_many("echo", [b"x", b"y"], priority="high")
    assert client.xlen(keys.lane("echo", "1.0", keys.HIGH)) == 2
    with pytest.raises(BadRequest, match="priority must be one of"):
        sync.submit("echo", b"x", priority="urgent")
    with pytest.raises(BadRequest, match="priority must be one of"):
        sync.predict("echo", b"x", priority="urgent")


def test_a_prediction_may_have_a_priority_and_a_path(sync, start_replica):
    start_replica(lambda request: Reply(request.id, 200, f"{request.lane} {request.path!r}".encode()))
    answer = sync.predict("echo", b"x", priority="high", path="a/b")
    assert answer.text == f"{keys.lane('echo', '1.0', keys.HIGH)} {b'a/b'!r}"


def test_jobs_are_listed_and_counted_over_all_models(sync, registry):
    registry.register(make_spec("other"))
    ids = [job.id for job in sync.submit_many("echo", [b"1", b"2", b"3"], tags=("t",))]
    other = sync.submit("other", b"x").id
    assert [record.id for record in sync.jobs("echo")] == ids[::-1]
    assert [record.id for record in sync.jobs()] == [other, *ids[::-1]]
    assert [record.id for record in sync.jobs(tag="t", state="queued")] == ids[::-1]
    counts = (sync.counts(), sync.counts("other"), sync.counts(tag="t"))
    assert [each["queued"] for each in counts] == [4, 1, 3]


def test_many_jobs_are_cancelled(sync):
    sync.submit_many("echo", [b"1", b"2", b"3"], tags=("t",))
    kept = sync.submit("echo", b"x")
    first = sync.cancel_many("echo", tag="t", limit=2)
    assert (first.cancelled, first.remaining) == (2, 1)
    assert sync.cancel_many("echo", tag="t").remaining == 0
    assert [record.id for record in sync.jobs(state="queued")] == [kept.id]


def test_a_job_for_later_is_scheduled(sync):
    job = sync.submit("echo", b"x", not_before=time.time() + 3600)
    assert job.status().state == "scheduled"


def test_a_failed_job_is_retried(sync, start_replica):
    answers = iter([503, 200])
    start_replica(lambda request: Reply(request.id, next(answers), b"y"))
    job = sync.submit("echo", b"x")
    with pytest.raises(Exception, match="status 503"):
        job.result(60)
    job.retry()
    assert job.result(60).body == b"y"
    with pytest.raises(Conflict):
        job.retry()


async def test_an_awaited_list_has_the_same_jobs(redis_url, spec):
    async with AsyncClient(redis_url) as client:
        ids = [job.id for job in await client.submit_many("echo", [b"1", b"2"])]
        assert [record.id async for record in client.jobs("echo")] == ids[::-1]
        assert (await client.counts())["queued"] == 2
        assert (await client.cancel_many("echo")).cancelled == 2


def test_jobs_have_the_webhook_of_their_model_unless_they_name_another(sync, client, registry):
    registry.register(make_spec("hooked", webhook_url="https://example.org/model"))
    own = {"webhook": "https://example.org/job", "webhook_events": ["failed", "expired"]}
    jobs = [
        sync.submit("hooked", b"x"),
        *sync.submit_many("hooked", [b"x"]),
        sync.submit("hooked", b"x", **own),
        sync.submit("echo", b"x"),
    ]
    records = [client.hgetall(keys.job(*job.id.split(":"))) for job in jobs]
    assert [record.get(b"webhook") for record in records] == [
        b"https://example.org/model", b"https://example.org/model", b"https://example.org/job", None,
    ]  # fmt: skip
    assert records[2][b"webhook_events"] == b"failed,expired"
    # And the senders know where to look
    assert client.zrange(keys.WEBHOOKS, 0, -1) == [b"hooked"]
