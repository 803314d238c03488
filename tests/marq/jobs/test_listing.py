import pytest
from support import wait_for
from thread_replica import make_spec

from marq import keys
from marq.errors import BadRequest
from marq.jobs.listing import Cursor, JobFilter, page

EVERYTHING = JobFilter()


def ids(found):
    return [record.id.partition(":")[2] for record in found.jobs]


async def test_jobs_are_listed_from_the_newest_with_their_states_and_counts(jobs, client, submit, finish):
    # Given jobs in all states
    for _ in range(7):
        await submit()
    finish()
    finish(status=500)
    await jobs.cancel("echo:2")
    client.xreadgroup(keys.GROUP, "replica", {keys.lane("echo", "1.0"): ">"}, count=1)
    # Then each is listed as what it is
    found = await page(jobs.broker, ["echo"], EVERYTHING, 100)
    assert ids(found) == ["6", "5", "4", "3", "2", "1", "0"]
    states = [record.state for record in found.jobs]
    assert states == ["queued", "queued", "queued", "running", "cancelled", "failed", "succeeded"]
    assert found.counts == {
        "scheduled": 0, "queued": 3, "running": 1, "succeeded": 1, "failed": 1, "expired": 0, "cancelled": 1,
    }  # fmt: skip
    assert found.next is None
    # And each state has its own list
    for state, expected in (("queued", ["6", "5", "4"]), ("running", ["3"]), ("failed", ["1"])):
        assert ids(await page(jobs.broker, ["echo"], JobFilter(state=state), 100)) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_follow_each_other_without_gap_or_repetition(jobs, registry, submit, finish, limit):
    # Given jobs of two models, in several states
    registry.register(make_spec("other"))
    expected = []
    for number in range(12):
        expected.insert(0, await submit(model="other" if number % 3 == 0 else "echo"))
    finish(4)
    # When they are read page by page, while new ones come in
    seen, after = [], None
    while True:
        found = await page(jobs.broker, ["echo", "other"], EVERYTHING, limit, after)
        assert len(found.jobs) <= limit
        seen += [record.id for record in found.jobs]
        after = found.next and Cursor.parse(str(found.next))
        if after is None:
            break
        await submit()
    # Then each is there once
    assert seen == expected


async def test_jobs_of_one_moment_are_split_between_pages(jobs, client, submit):
    for _ in range(5):
        await submit()
    queued = f"{keys.jobs('echo')}normal::1.0"
    client.zadd(queued, dict.fromkeys(client.zrange(queued, 0, -1), 1700000000000000))
    seen, after = [], None
    for _ in range(3):
        found = await page(jobs.broker, ["echo"], EVERYTHING, 2, after)
        seen += ids(found)
        after = found.next
    assert (seen, after) == (["4", "3", "2", "1", "0"], None)


async def test_a_tag_and_a_version_have_their_own_lists_and_counts(jobs, registry, submit, finish):
    registry.register(make_spec(version="2.0"))
    await submit(b"night")
    await submit(b"night,ward-7")
    await submit(b"ward-7", version="2.0")
    await submit()
    finish(1)
    night = await page(jobs.broker, ["echo"], JobFilter(tag="night"), 100)
    assert (ids(night), night.counts["queued"], night.counts["succeeded"]) == (["1", "0"], 1, 1)
    assert [record.tags for record in night.jobs] == [("night", "ward-7"), ("night",)]
    assert ids(await page(jobs.broker, ["echo"], JobFilter(tag="ward-7"), 100)) == ["2", "1"]
    second = await page(jobs.broker, ["echo"], JobFilter(version="2.0"), 100)
    assert (ids(second), second.counts["queued"]) == (["2"], 1)
    assert ids(await page(jobs.broker, ["echo"], JobFilter("1.0", "queued", "ward-7"), 100)) == ["1"]


async def test_a_job_of_a_plain_xadd_is_listed_once_it_has_finished(jobs, client, finish):
    client.xadd(keys.lane("echo", "1.0"), {"id": "mine", "job": "1", "body": "x"})
    finish()
    found = await page(jobs.broker, ["echo"], EVERYTHING, 100)
    assert (ids(found), found.counts["succeeded"]) == (["mine"], 1)


async def test_expired_records_leave_the_list_and_at_last_no_key(jobs, client, submit, finish):
    # Given a job with a tag whose record expires at once, and one that stays
    await submit(b"night")
    await submit()
    finish(1, ttl_ms=1)
    # Then soon it is neither listed nor counted
    wait_for(lambda: not client.exists(keys.job("echo", "0")))
    found = await page(jobs.broker, ["echo"], EVERYTHING, 100)
    assert (ids(found), found.counts["succeeded"]) == (["1"], 0)
    # And after the last one no key of the index is left
    finish(1, ttl_ms=1)
    wait_for(lambda: not list(client.scan_iter(match=keys.jobs("echo") + "*")))


async def test_a_text_that_is_no_cursor_is_refused():
    for text in ("nonsense", "bm9uc2Vuc2U=", "é"):
        with pytest.raises(BadRequest, match="after"):
            Cursor.parse(text)
