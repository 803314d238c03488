"""Callers share the lanes of a model: many jobs of one do not delay a few of another."""

import time

import pytest
from thread_replica import make_spec

from marq import keys
from marq.control.removal import clear
from marq.errors import TooManyJobs
from marq.jobs import groups
from marq.jobs.groups import Group, Queued
from marq.jobs.listing import JobFilter, page
from marq.jobs.options import JobOptions
from marq.jobs.position import position
from marq.jobs.schedule import queue_due
from marq.queue import depth
from marq.queue.entries import EntryFields, EntryHead

LANE = keys.lane("echo", "1.0")
BATCH = 8
ALICE, BOB = JobOptions(tags=("owner=alice",)), JobOptions(tags=("owner=bob",))


@pytest.fixture
def spec(registry):
    """Callers are named by the tag `owner`; alice has three times the share of another."""
    spec = make_spec(caller_tag="owner", caller_weights="alice=3", caller_quota=25_000)
    registry.register(spec)
    return spec


@pytest.fixture
def submit_many(jobs):
    """Queues so many jobs with ids such as alice-0."""

    async def submit_many(options, name, count, **fields):
        head = EntryHead(options=options.fields, **fields)
        rows = [(f"{name}-{n}".encode(), EntryFields(b"x", head)) for n in range(count)]
        return await jobs.submit_many("echo", "1.0", rows, options.priority)

    return submit_many


def callers_of(requests):
    return [request.id.decode().partition("-")[0] for request in requests]


async def test_ten_jobs_are_done_within_a_few_batches_of_twenty_thousand(jobs, client, submit_many, finish):
    await submit_many(ALICE, "alice", 20_000)
    await submit_many(BOB, "bob", 10)
    # The lane has a few batches; all the jobs count as queued
    assert client.xlen(LANE) <= 5 * BATCH
    assert (await page(jobs.broker, ["echo"], JobFilter(), 1)).counts["queued"] == 20_010
    ran = []
    while callers_of(ran).count("bob") < 10:
        ran += finish(BATCH)
    assert len(ran) <= 12 * BATCH
    # Each caller's jobs run in their order
    assert [each.id for each in ran if each.id.startswith(b"bob")] == [b"bob-%d" % n for n in range(10)]


async def test_weights_are_the_shares_while_both_wait(submit_many, finish):
    await submit_many(ALICE, "alice", 1000)
    await submit_many(BOB, "bob", 1000)
    for _ in range(10):
        finish(BATCH)  # those that were in the lane before bob came
    shares = callers_of(finish(1)) + [caller for _ in range(50) for caller in callers_of(finish(BATCH))]
    assert shares.count("alice") / shares.count("bob") == pytest.approx(3, rel=0.1)


async def test_a_caller_has_all_replicas_while_others_are_idle_and_no_job_is_lost(
    jobs, client, submit_many, finish
):
    await submit_many(BOB, "bob", 500)
    await submit_many(ALICE, "alice", 3)
    ran = [each.id for _ in range(63) for each in finish(BATCH)]
    assert sorted(ran) == sorted([*(b"bob-%d" % n for n in range(500)), *(b"alice-%d" % n for n in range(3))])
    assert (await page(jobs.broker, ["echo"], JobFilter(), 1)).counts["succeeded"] == 503
    assert not client.keys("marq:{echo}:held*") + client.keys("marq:{echo}:turns*")


async def test_held_jobs_move_without_a_replica_that_ends_some(jobs, client, spec, submit_many):
    """As when the replicas' last batch was lost: nodes look every second."""
    await submit_many(ALICE, "alice", 100)
    entries = client.xrange(LANE)
    client.xdel(LANE, *(entry for entry, _ in entries))
    assert queue_due(client, [spec]) == min(100 - len(entries), len(entries))
    assert client.xlen(LANE)
    assert (await jobs.get("echo:alice-99")).state == "queued"


async def test_held_jobs_are_counted_cancelled_and_have_a_position(jobs, client, spec, submit_many, finish):
    await submit_many(ALICE, "alice", 200)
    await submit_many(BOB, "bob", 3)
    assert depth.read(client, [spec])["echo/1.0"].lanes["normal"].waiting == 203
    held = depth.held(client, [spec])["echo/1.0"]
    assert held == {"alice": 200 - client.xlen(LANE), "bob": 3}
    assert await position(jobs.broker, await jobs.get("echo:bob-0")) < 50
    assert await jobs.cancel("echo:bob-1")
    assert (await jobs.get("echo:bob-1")).state == "cancelled"
    ran = [each.id for _ in range(26) for each in finish(BATCH)]
    assert (len(ran), b"bob-1" in ran) == (202, False)
    assert depth.read(client, [spec])["echo/1.0"].waiting == 0


async def test_a_held_job_leaves_the_turns_at_its_deadline(client, spec, submit_many):
    await submit_many(ALICE, "alice", 100)
    await submit_many(BOB, "bob", 1, deadline=b"1")
    queue_due(client, [spec])
    # It is in the lane, where requests that are too late expire, before others of alice's
    assert b"bob-0" in [fields[b"id"] for _, fields in client.xrange(LANE)]


async def test_scheduled_jobs_wait_for_their_turn_too(jobs, client, spec, submit_many, finish):
    await submit_many(ALICE, "alice", 100)
    late = JobOptions(tags=("owner=alice",), not_before=time.time() + 3600)
    await submit_many(late, "later", 40)
    client.zadd(keys.scheduled("echo", "1.0"), {f"later-{n}": 1 for n in range(40)})
    before = client.xlen(LANE)
    assert queue_due(client, [spec]) >= 40
    assert client.xlen(LANE) <= before + 1
    assert (await jobs.get("echo:later-0")).state == "queued"
    ran = [each.id for _ in range(18) for each in finish(BATCH)]
    assert len(ran) == 140
    assert ran.index(b"later-0") > ran.index(b"alice-50")


async def test_a_failed_job_that_is_tried_again_waits_for_its_turn(jobs, client, submit_many, finish):
    await submit_many(ALICE, "alice", 100)
    [request] = finish(1, status=500)
    before = client.xlen(LANE)
    await jobs.retry("echo:alice-0")
    assert (client.xlen(LANE), (await jobs.get("echo:alice-0")).state) == (before, "queued")
    ran = [each.id for _ in range(13) for each in finish(BATCH)]
    assert ran.count(request.id) == 1


async def test_a_quota_refuses_the_jobs_of_one_caller_only(
    jobs, registry, client, submit, submit_many, finish
):
    small = make_spec(caller_tag="owner", caller_quota=50)
    registry.put(small)
    await submit_many(ALICE, "alice", 50)
    with pytest.raises(TooManyJobs, match="as many unfinished jobs as callerQuota allows") as refused:
        await submit(options=ALICE)
    assert refused.value.headers == {"Retry-After": "10"}
    with pytest.raises(TooManyJobs):
        await submit_many(ALICE, "more", 1)
    await submit(options=BOB)
    await submit(options=JobOptions(tags=("night",)))
    finish(1)
    # A batch is queued as far as it goes
    group = Group.new("echo")
    rows = [(b"g%d" % n, EntryFields(b"x", EntryHead(options=ALICE.fields))) for n in range(3)]
    fates = await groups.queue(jobs.broker, group, "1.0", keys.NORMAL, rows)
    assert fates == [Queued.NEW, Queued.OVER_QUOTA, Queued.OVER_QUOTA]


async def test_held_jobs_of_an_unregistered_version_fail(jobs, client, registry, spec, submit_many):
    ids = await submit_many(ALICE, "alice", 600)
    registry.unregister(spec)
    clear(registry, spec, 60)
    assert (await page(jobs.broker, ["echo"], JobFilter(), 1)).counts["failed"] == 600
    assert (await jobs.get(ids[-1])).status == 503
    assert not client.keys("marq:{echo}:held*") + client.keys("marq:{echo}:callers*")


async def test_without_the_setting_no_job_is_held_back(registry, client, submit_many):
    registry.put(make_spec())
    await submit_many(ALICE, "alice", 100)
    assert client.xlen(LANE) == 100
