"""The events of one job."""

import asyncio
import json

import pytest
from thread_replica import make_spec

from marq import keys
from marq.connections import clients
from marq.errors import JobNotFound
from marq.jobs import events
from marq.jobs.events import Position, follow
from marq.queue.entries import decode
from marq.queue.job_records import Progress
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply

LANE = keys.lane("echo", "1.0")


@pytest.fixture
def take(client):
    """Takes the oldest queued job as a replica does."""

    def take():
        [(_, [(entry, fields)])] = client.xreadgroup(keys.GROUP, "replica", {LANE: ">"}, count=1)
        return decode(LANE, entry, [part for pair in fields.items() for part in pair])

    return take


@pytest.fixture
def stream(client):
    """Sends a part of an answer; number 0 is the last one."""
    publisher = Publisher(make_spec(), "cpu", 60_000)

    def stream(request, number, body, status=200):
        reply = Reply(request.id, status, body, more=number)
        commands = (
            publisher.parts([(request, reply)]) if number else publisher.commands([(request, reply)], 1)
        )
        clients.pipeline(client, commands)

    return stream


def parsed(raw):
    """(id, event, data) of an encoded event."""
    lines = dict(line.split(": ", 1) for line in raw.decode().strip().split("\n"))
    return lines["id"], lines["event"], json.loads(lines["data"])


async def read(jobs, job, after="", most=100):
    """The next events; all until the job has ended."""
    found = []
    async with asyncio.timeout(60):
        async for raw in follow(jobs, job, Position.parse(after)):
            if raw != events.SILENCE:
                found.append(parsed(raw))
            if len(found) == most:
                break
    return found


def told(found):
    """What the events say, without ids."""
    return [data.get("state") or data.get("text") or data.get("base64") or kind for _, kind, data in found]


async def test_a_job_is_followed_until_it_has_ended(jobs, submit, take, stream):
    job = await submit()
    reading = asyncio.create_task(read(jobs, job))
    await read(jobs, job, most=1)
    request = take()
    await read(jobs, job, "queued.0.0", most=1)  # it is seen that it runs
    stream(request, 0, b"y")
    found = await reading
    assert told(found)[0] == "queued"
    assert found[-1][1:] == ("state", {**found[-1][2], "state": "succeeded", "status": 200})
    assert set(told(found)) <= {"queued", "running", "succeeded"}


async def test_no_part_is_missed_or_repeated_over_a_reconnect(jobs, submit, take, stream):
    # Given a job that streams
    job = await submit()
    request = take()
    stream(request, 1, b"a")
    stream(request, 2, b"b")
    first = await read(jobs, job, most=3)
    assert told(first) == ["running", "a", "b"]
    # When its reader is away while it goes on, and comes back
    stream(request, 3, b"c")
    stream(request, 0, b"d")
    second = await read(jobs, job, first[-1][0])
    # Then it gets the rest
    assert told(second) == ["c", "d", "succeeded"]
    # As one does that has lost one of the events
    assert told(await read(jobs, job, first[1][0])) == ["b", "c", "d", "succeeded"]
    # And one that comes for the first time gets all
    assert told(await read(jobs, job)) == ["a", "b", "c", "d", "succeeded"]


@pytest.fixture
def report(client):
    """Sends the progress of a job."""
    publisher = Publisher(make_spec(), "cpu", 60_000)

    def report(request, *progress):
        clients.pipeline(client, publisher.progress([(request, Progress(*progress))]))

    return report


async def test_progress_is_in_the_record_and_among_the_events(jobs, submit, take, stream, report):
    job = await submit()
    request = take()
    report(request, 0.25, "a quarter: 25 %")
    assert (await jobs.get(job)).to_dict()["progress"] == {"fraction": 0.25, "message": "a quarter: 25 %"}
    found = await read(jobs, job, most=2)
    assert [kind for _, kind, _ in found] == ["state", "progress"]
    report(request, 0.5, "")
    [(last, kind, data)] = await read(jobs, job, found[0][0], most=1)
    assert (kind, data) == ("progress", {"fraction": 0.5, "message": ""})
    stream(request, 0, b"y")
    assert told(await read(jobs, job, last)) == ["progress", "succeeded"]


async def test_a_job_that_has_ended_keeps_its_progress(jobs, submit, take, stream, report):
    job = await submit()
    request = take()
    report(request, 0.9, "nearly")
    stream(request, 0, b"y", status=500)
    report(request, 1.0, "too late")
    assert (await jobs.get(job)).progress == Progress(0.9, "nearly")
    await jobs.retry(job)
    assert (await jobs.get(job)).progress is None


async def test_a_job_without_a_record_gets_one_with_its_progress(jobs, client, take, report):
    client.xadd(LANE, {"id": "7", "body": b"x", "job": "1"})
    report(take(), 0.5, "half")
    record = await jobs.get("echo:7")
    assert (record.state, record.progress) == ("running", Progress(0.5, "half"))


async def test_bytes_that_are_no_text_are_base64(jobs, submit, take, stream):
    job = await submit()
    request = take()
    stream(request, 1, b"\xff\x00")
    assert (await read(jobs, job, most=2))[1][1:] == ("part", {"part": 1, "base64": "/wA="})


async def test_parts_begin_again_when_another_replica_runs_the_job(jobs, submit, take, stream):
    job = await submit()
    request = take()
    stream(request, 1, b"a")
    stream(request, 2, b"b")
    before = await read(jobs, job, most=3)
    request.attempts = b"1"
    stream(request, 1, b"A")
    after = await read(jobs, job, before[-1][0], most=2)
    assert [(kind, data) for _, kind, data in after] == [
        ("restart", {"attempt": 2}), ("part", {"part": 1, "text": "A"}),
    ]  # fmt: skip


async def test_a_failure_after_the_first_part_is_no_part(jobs, submit, take, stream):
    job = await submit()
    request = take()
    stream(request, 1, b"a")
    stream(request, 0, b'{"code": 500}', status=500)
    assert told(await read(jobs, job)) == ["a", "failed"]


async def test_a_reader_is_kept_while_nothing_happens(jobs, submit, monkeypatch):
    monkeypatch.setattr(events, "SILENCE_S", 0.02)
    monkeypatch.setattr(events, "RECHECK_S", 0.01)
    job = await submit()
    async with asyncio.timeout(60):
        async for raw in follow(jobs, job, Position.parse("queued.0.0")):
            assert raw == events.SILENCE
            break


async def test_readers_are_sent_away_when_the_gateway_ends(jobs, submit):
    job = await submit()
    jobs.end_waits()
    assert told(await read(jobs, job)) == ["queued"]


async def test_an_unknown_job_raises(jobs):
    with pytest.raises(JobNotFound):
        await read(jobs, "echo:none")


@pytest.mark.parametrize(
    "text", ["", "x", "running.1", "running.-1.0", "running.a.0", "lost.1.2", "queued.1.2.3"]
)
def test_an_id_that_is_none_is_the_beginning(text):
    assert Position.parse(text) == Position()


def test_a_position_is_read_as_it_was_written():
    assert Position.parse(str(Position("running", 2, 17))) == Position("running", 2, 17)
