"""Jobs that wait for their time, that are tried again, and that are cancelled many at a time."""

import time

import pytest

from marq import keys
from marq.control.removal import clear
from marq.errors import Conflict, JobNotFound
from marq.jobs.cancellation import cancel_many
from marq.jobs.listing import JobFilter, page
from marq.jobs.options import JobOptions
from marq.jobs.schedule import queue_due

LANE = keys.lane("echo", "1.0")


def in_an_hour(**options):
    return JobOptions(not_before=time.time() + 3600, **options)


async def states(jobs):
    return {
        state: number
        for state, number in (await page(jobs.broker, ["echo"], JobFilter(), 100)).counts.items()
        if number
    }


async def test_a_job_waits_for_its_time_then_runs(jobs, client, spec, submit, finish):
    job = await submit(options=in_an_hour(tags=("later",)))
    record = await jobs.get(job)
    assert (record.state, record.tags) == ("scheduled", ("later",))
    assert record.due == pytest.approx(time.time() + 3600, abs=600)
    assert (await states(jobs), client.xlen(LANE)) == ({"scheduled": 1}, 0)
    # While it is not due it stays
    assert queue_due(client, [spec]) == 0
    # When its time has come
    client.zadd(keys.scheduled("echo", "1.0"), {"0": 1})
    assert queue_due(client, [spec]) == 1
    assert queue_due(client, [spec]) == 0
    # Then it is queued once, with its body, and runs
    assert ((await jobs.get(job)).state, await states(jobs)) == ("queued", {"queued": 1})
    [request] = finish()
    assert (request.id, request.body) == (b"0", b"x")
    assert (await jobs.get(job)).state == "succeeded"
    assert await states(jobs) == {"succeeded": 1}
    assert (await page(jobs.broker, ["echo"], JobFilter(tag="later"), 9)).counts["succeeded"] == 1


async def test_a_time_in_the_past_is_now(jobs, client, submit):
    await submit(options=JobOptions(not_before=1))
    assert await states(jobs) == {"queued": 1}


async def test_a_scheduled_job_is_cancelled(jobs, client, spec, submit):
    job = await submit(options=in_an_hour())
    assert await jobs.cancel(job)
    assert await states(jobs) == {"cancelled": 1}
    assert queue_due(client, [spec], early=True) == 0
    assert client.xlen(LANE) == 0


async def test_scheduled_jobs_of_an_unregistered_version_fail(jobs, client, registry, spec, submit):
    job = await submit(options=in_an_hour(retries=3))
    registry.unregister(spec)
    clear(registry, spec, 60)
    record = await jobs.get(job)
    assert (record.state, record.status) == ("failed", 503)


async def test_a_job_that_the_handler_failed_is_tried_again_later_and_later(
    jobs, client, spec, submit, finish
):
    # Given a job that may be tried twice more
    job = await submit(options=JobOptions(retries=2, retry_delay=100, tags=("night",)), priority=keys.HIGH)
    waits = []
    for attempt in (1, 2):
        # When the handler fails
        before = time.time()
        finish(status=503, lane=keys.HIGH)
        # Then it is scheduled
        record = await jobs.get(job)
        assert (record.state, record.retried, record.status) == ("scheduled", attempt, 503)
        assert await states(jobs) == {"scheduled": 1}
        waits.append(record.due - before)
        queue_due(client, [spec], early=True)
        assert client.xlen(keys.lane("echo", "1.0", keys.HIGH)) == 1
    # Each time for twice as long, half of it by chance
    assert 49 < waits[0] < 700
    assert 99 < waits[1] < 800
    # And after the last attempt it has failed
    finish(status=503, lane=keys.HIGH)
    record = await jobs.get(job)
    assert (record.state, record.retried, record.status) == ("failed", 2, 503)
    assert (await page(jobs.broker, ["echo"], JobFilter(tag="night"), 9)).counts["failed"] == 1


@pytest.mark.parametrize("status", [400, 404, 501])
async def test_statuses_that_were_not_asked_for_are_not_tried_again(jobs, submit, finish, status):
    job = await submit(options=JobOptions(retries=2))
    finish(status=status)
    assert (await jobs.get(job)).state == "failed"


async def test_a_job_says_for_which_statuses_it_is_tried_again(jobs, submit, finish):
    job = await submit(options=JobOptions(retries=2, retry_on=(404,)))
    finish(status=404)
    assert (await jobs.get(job)).state == "scheduled"


async def test_a_failed_job_is_retried_by_hand(jobs, client, submit, finish):
    job = await submit(b"night")
    finish(status=500)
    await jobs.retry(job)
    record = await jobs.get(job)
    assert (record.state, record.status, record.finished, record.body) == ("queued", None, None, None)
    assert (await states(jobs), client.ttl(keys.job("echo", "0"))) == ({"queued": 1}, -1)
    [request] = finish()
    assert request.body == b"x"
    assert (await jobs.get(job)).state == "succeeded"
    with pytest.raises(Conflict, match="is succeeded; only failed and expired jobs can be retried"):
        await jobs.retry(job)
    with pytest.raises(JobNotFound):
        await jobs.retry("echo:nope")


async def test_a_record_is_kept_for_as_long_as_its_job_asks(jobs, client, submit, finish):
    await submit(options=JobOptions(result_ttl=3600))
    await submit()
    finish(2, ttl_ms=900_000)
    assert 1000 < client.ttl(keys.job("echo", "0")) <= 3600
    assert 0 < client.ttl(keys.job("echo", "1")) <= 900
    assert client.ttl(f"{keys.jobs('echo')}succeeded::1.0") > 1000


async def test_a_finished_job_says_how_it_went(jobs, submit, finish):
    job = await submit()
    await submit()
    finish(2)
    record = await jobs.get(job)
    assert record.timeline["batched_with"] == 1
    assert record.timeline["handler_ms"] > 0


async def test_many_jobs_are_cancelled_by_filter(jobs, client, submit, finish):
    # Given jobs with and without a tag, one of which runs, one is scheduled
    for _ in range(3):
        await submit(b"night")
    await submit()
    await submit(options=in_an_hour(tags=("night",)))
    client.xreadgroup(keys.GROUP, "replica", {LANE: ">"}, count=1)
    # When those with the tag are cancelled, a few at a time
    done = await cancel_many(jobs.broker, "echo", JobFilter(tag="night", state="queued"), 1)
    assert (done.cancelled, done.remaining) == (1, 1)
    done = await cancel_many(jobs.broker, "echo", JobFilter(tag="night"), 100)
    assert (done.cancelled, done.remaining) == (3, 0)
    # Then the others stay
    assert await states(jobs) == {"queued": 1, "cancelled": 4}
    assert client.xlen(LANE) == 1
    assert (await cancel_many(jobs.broker, "echo", JobFilter(tag="night"), 100)).cancelled == 0
