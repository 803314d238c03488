"""The ends of many jobs, as events."""

import asyncio
import json

import pytest

from marq import keys
from marq.errors import BadRequest
from marq.jobs import ends, groups
from marq.jobs.ends import Wanted, follow
from marq.jobs.groups import Group
from marq.jobs.options import JobOptions

NIGHT = Wanted("echo", "night")


def parsed(event):
    lines = dict(line.split(": ", 1) for line in event.decode().strip().split("\n"))
    return lines["id"], lines["event"], json.loads(lines["data"])


async def take(events, count):
    async with asyncio.timeout(60):
        return [parsed(await anext(events)) for _ in range(count)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(ends, "LOOK_S", 0.01)


async def test_the_ends_of_jobs_with_a_tag_are_sent(jobs, submit, finish):
    await submit(b"night")
    events = follow(jobs, NIGHT, "")
    [(_, kind, data)] = await take(events, 1)
    assert (kind, data["counts"]["queued"]) == ("open", 1)
    # When jobs with the tag end, and others
    await submit(b"night")
    await submit(b"day")
    finish(1)
    finish(1, status=500)
    finish(1)
    cancelled = await submit(b"night,late")
    await jobs.cancel(cancelled)
    # Then each end with the tag is an event
    found = [(data["job_id"], data["state"], data["status"]) for _, _, data in await take(events, 3)]
    assert found == [("echo:0", "succeeded", 200), ("echo:1", "failed", 500), (cancelled, "cancelled", None)]


async def test_a_reader_that_comes_back_misses_nothing(jobs, client, submit, finish):
    events = follow(jobs, NIGHT, "")
    await take(events, 1)
    for _ in range(4):
        await submit(b"night")
    finish(1)
    [(last, _, _)] = await take(events, 1)
    await events.aclose()
    # When jobs end while it is away
    finish(3)
    again = follow(jobs, NIGHT, last)
    assert [data["job_id"] for _, _, data in await take(again, 3)] == ["echo:1", "echo:2", "echo:3"]
    # And where the log is gone, it says so
    client.delete(keys.job_ends("echo"))
    assert [kind for _, kind, _ in await take(follow(jobs, NIGHT, last), 1)] == ["missed"]
    with pytest.raises(BadRequest, match="Last-Event-ID must be the id of an event"):
        follow(jobs, NIGHT, "yesterday")


async def test_the_events_of_a_group_end_with_its_last_job(jobs, submit, finish):
    group = Group.new("echo")
    opening = await groups.open_group(jobs.broker, group, "1.0", JobOptions())
    async with groups.uploading(jobs.broker, group, opening):
        for _ in range(3):
            await submit(group.tag.encode())
        events = follow(jobs, Wanted("echo", group.tag, group), "")
        await take(events, 1)
        finish(3)
        ended = await take(events, 3)
    [(_, kind, data)] = await take(events, 1)
    assert ([kind for _, kind, _ in ended], kind) == (["ended"] * 3, "finished")
    assert data["counts"]["succeeded"] == 3
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_nothing_is_logged_that_nobody_reads(client, submit, finish):
    await submit(b"night")
    finish(1)
    assert not client.exists(keys.job_ends("echo"))
