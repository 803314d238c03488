"""However a job ends, its webhook gets a message."""

import time

import pytest
from thread_replica import make_spec
from workflow_plant import Plant, workflow_of

from marq import keys
from marq.connections import clients
from marq.errors import ServiceUnavailable
from marq.jobs.options import JobOptions
from marq.queue.dead_letters import DeadLetters
from marq.queue.entries import EntryFields, decode
from marq.queue.giving_up import Death, bury, refusals, take
from marq.queue.publishing import Publisher
from marq.workflows.runs import Runs

URL = "https://example.org/hook"
LANE = keys.lane("echo", "1.0")


def messages(webhooks):
    """(id of the job, state, status) of all messages."""
    return [
        (kept.message.job, kept.message.state, kept.message.status) for kept in webhooks.page(None, None, 10)
    ]


@pytest.fixture
def taken(client, submit):
    """Submits a job, and takes its entry as a replica does: (id of the entry, fields)."""

    async def taken():
        await submit(URL)
        [entry] = take(client, LANE, "replica")
        return entry

    return taken


async def test_an_expired_job(taken, client, webhooks):
    request = decode(LANE, *await taken())
    clients.pipeline(client, Publisher(make_spec(), "cpu", 60_000).expire([request]))
    assert messages(webhooks) == [("echo:0", "expired", "504")]


async def test_a_job_of_a_model_that_is_removed(taken, client, webhooks):
    entry = await taken()
    error = ServiceUnavailable("Model echo was unregistered.")
    clients.pipeline(client, refusals(make_spec(), LANE, [entry], error, 60_000))
    assert messages(webhooks) == [("echo:0", "failed", "503")]


async def test_a_job_that_becomes_a_dead_letter_and_is_replayed(taken, client, webhooks, answer):
    entry, _ = await taken()
    clients.pipeline(client, bury(make_spec(), LANE, entry, Death("given up", 3)))
    assert messages(webhooks) == [("echo:0", "failed", "400")]
    # The job of the replay has the webhook, too
    letters = DeadLetters(client)
    [job] = letters.replay("echo", letters.ids("echo")).jobs.values()
    answer()
    assert (job, "succeeded", "200") in messages(webhooks)


async def test_a_job_that_is_cancelled_while_it_is_scheduled(submit, jobs, webhooks):
    job = await submit(URL, not_before=time.time() + 3600)
    await jobs.cancel(job)
    assert messages(webhooks) == [(job, "cancelled", "")]


async def test_a_job_that_is_tried_again_has_not_ended(submit, answer, webhooks, client):
    await submit(URL, retries=1, retry_delay=3600)
    answer(status=500)
    assert client.hget(keys.job("echo", "0"), "state") == b"scheduled"
    assert messages(webhooks) == []


@pytest.mark.parametrize(("events", "sent"), [((), 1), (("failed",), 0)])
async def test_a_run_of_a_workflow(redis_url, broker, webhooks, events, sent):
    site = Plant(redis_url, workflow_of({"a": ["b"]}))
    options = JobOptions(webhook=URL, webhook_events=events, tags=("night",))
    job, _ = await Runs(broker).submit(site.workflow, b"r1", EntryFields(b"in"), options)
    site.work("a", b"A")
    assert messages(webhooks) == []
    site.work("b", b"B")
    assert messages(webhooks) == [(job, "succeeded", "200")] * sent


async def test_a_job_without_a_webhook_leaves_nothing(jobs, submit, answer, client):
    for _ in range(3):
        await submit(None)
    answer(3)
    assert list(client.scan_iter("marq:*webhook*")) == []
