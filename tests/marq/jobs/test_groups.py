"""When a group of jobs has finished, and that its webhook is told so once."""

import asyncio
import json
import time

import pytest
from thread_replica import make_spec

from marq import keys
from marq.connections import clients
from marq.errors import JobNotFound
from marq.jobs import groups, schedule
from marq.jobs.groups import Group
from marq.jobs.options import JobOptions
from marq.queue.giving_up import Death, bury, take
from marq.webhooks.inspection import Webhooks

URL = "https://example.org/hook"
LANE = keys.lane("echo", "1.0")


@pytest.fixture
def group():
    return Group.new("echo", "nightly")


@pytest.fixture
def opened(jobs, group):
    """Opens the group; returns what closes it."""

    async def opened(**options):
        asked = JobOptions(webhook=URL, tags=("night",), **options)
        opening = await groups.open_group(jobs.broker, group, "1.0", asked, 60_000)
        return groups.uploading(jobs.broker, group, opening)

    return opened


@pytest.fixture
def add(submit, group):
    async def add(number=1, **options):
        asked = group.options(JobOptions(webhook=URL, **options))
        return [await submit(options=asked) for _ in range(number)]

    return add


@pytest.fixture
def messages(client):
    """What the webhook was told, or will be."""

    def messages():
        found = [kept.message for kept in Webhooks(client).page(None, None, 10)]
        found.sort(key=lambda message: message.ended_ms)
        return [json.loads(message.body)["data"]["counts"] for message in found if message.group]

    return messages


def counts(**given):
    return {"cancelled": 0, "expired": 0, "failed": 0, "succeeded": 0, **given}


async def test_a_group_does_not_finish_before_its_upload_has(jobs, group, opened, add, finish, messages):
    async with await opened():
        await add(2)
        finish(2)
        found = await groups.find(jobs.broker, group)
        assert (found.jobs, found.counts["succeeded"], found.is_finished) == (2, 2, False)
        assert messages() == []
        await add(1)
    assert messages() == []
    finish(1, status=500)
    assert (await groups.find(jobs.broker, group)).is_finished
    assert messages() == [counts(succeeded=2, failed=1)]


async def test_jobs_that_end_in_any_way_finish_the_group(jobs, client, group, opened, add, messages):
    async with await opened():
        [first, second] = await add(2)
        await add(1, not_before=time.time() + 3600)
    # When one becomes a dead letter, and the others are cancelled
    [(entry, _)] = take(client, LANE, "replica")[:1]
    clients.pipeline(client, bury(make_spec(), LANE, entry, Death("given up", 3)))
    assert await groups.cancel(jobs.broker, group, 60_000) == groups.Cancelled(2, 0)
    assert messages() == [counts(failed=1, cancelled=2)]
    assert {(await jobs.get(job)).state for job in (first, second)} == {"failed", "cancelled"}


async def test_a_retried_job_makes_the_group_finish_again(jobs, group, opened, add, finish, messages):
    async with await opened():
        [job] = await add(1)
    finish(1, status=500)
    for _ in range(5):  # so quickly that some end in the same millisecond
        await jobs.retry(job)
        found = await groups.find(jobs.broker, group)
        assert (found.counts["queued"], found.counts["failed"], found.is_finished) == (1, 0, False)
        finish(1, status=500)
    await jobs.retry(job)
    finish(1)
    told = messages()
    assert (told.count(counts(failed=1)), told.count(counts(succeeded=1))) == (6, 1)


async def test_a_batch_that_is_sent_again_has_no_second_message(jobs, group, opened, add, finish, messages):
    async with await opened():
        await add(1)
        finish(1)
    assert messages() == [counts(succeeded=1)]
    async with await opened():
        assert not (await groups.find(jobs.broker, group)).is_finished
    assert (await groups.find(jobs.broker, group)).is_finished
    assert messages() == [counts(succeeded=1)]


async def test_a_group_without_jobs_finishes_with_its_upload(group, opened, messages, client):
    async with await opened():
        pass
    assert messages() == [counts()]
    assert 0 < client.pttl(keys.group("echo", group.name)) <= 60_000


async def test_a_group_whose_gateway_was_killed_finishes(
    jobs, client, group, opened, add, finish, messages, monkeypatch
):
    monkeypatch.setattr(groups, "OPEN_MS", 50)
    await opened()  # and nobody closes it
    await add(2)
    finish(1)
    async with asyncio.timeout(60):
        while client.exists(keys.uploads("echo")):
            schedule.queue_due(client, [make_spec()])
            await asyncio.sleep(0.01)
    assert messages() == []
    finish(1)
    assert messages() == [counts(succeeded=2)]
    assert (await groups.find(jobs.broker, group)).is_finished


async def test_an_upload_that_goes_on_keeps_the_group_open(
    jobs, client, group, opened, add, finish, messages, monkeypatch
):
    monkeypatch.setattr(groups, "RENEW_S", 0.01)
    async with await opened():
        before = client.zscore(keys.uploads("echo"), group.name)
        async with asyncio.timeout(60):
            while client.zscore(keys.uploads("echo"), group.name) == before:
                await asyncio.sleep(0.01)
        await add(1)
        finish(1)
        assert messages() == []
    assert messages() == [counts(succeeded=1)]


async def test_counts_outlive_the_records_of_jobs(jobs, client, group, opened, add, finish):
    async with await opened():
        await add(2)
    finish(1)
    client.delete(keys.job("echo", "0"), *client.keys(f"{keys.jobs('echo')}succeeded:*"))
    found = await groups.find(jobs.broker, group)
    assert (found.counts["succeeded"], found.counts["queued"]) == (1, 1)


async def test_a_tag_of_the_user_names_no_group(jobs, client, group, opened, submit, finish):
    async with await opened():
        await submit(options=JobOptions(tags=("group=mine",)))
        await submit(options=group.options(JobOptions(tags=("group=mine",))))
    assert (await groups.find(jobs.broker, group)).jobs == 1
    with pytest.raises(JobNotFound):
        await groups.find(jobs.broker, Group("echo", "mine"))
