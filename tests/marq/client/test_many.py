"""`map` and `as_completed` of both clients."""

import asyncio
import itertools
import threading

import pytest
from support import wait_for

from marq import keys
from marq.client import AsyncClient, Client, JobFailed, PredictionFailed
from marq.errors import JobNotFound, ModelNotFound
from marq.queue.replies.entries import Reply


@pytest.fixture
def sync(redis_url, spec):
    with Client(redis_url) as client:
        yield client


def refuses_3(request):
    return Reply(request.id, 400 if request.body == b"3" else 200, request.body)


def held(release):
    """A handler that answers `late` only after the release."""

    def answer(request):
        if request.body == b"late":
            assert release.wait(60)
        return Reply(request.id, 200, request.body)

    return answer


def test_answers_come_in_the_order_of_the_rows(sync, start_replica):
    start_replica()
    answers = [answer.json() for answer in sync.map("echo", range(500), window=64)]
    assert answers == list(range(500))
    assert list(sync.map("echo", [])) == []


def test_rows_are_taken_as_answers_come(sync, start_replica):
    start_replica()
    taken = itertools.count()
    answers = sync.map("echo", taken, window=10)
    assert [next(answers).json() for _ in range(5)] == [0, 1, 2, 3, 4]
    answers.close()
    assert next(taken) == 14  # 10 for the first answer, one for each other


def test_the_first_error_ends_a_map_and_takes_the_others_out_of_the_queue(sync, start_replica):
    start_replica(refuses_3)
    answers = sync.map("echo", [b"1", b"2", b"3", b"4"])
    assert [next(answers).body, next(answers).body] == [b"1", b"2"]
    with pytest.raises(PredictionFailed, match="status 400"):
        next(answers)
    with pytest.raises(ModelNotFound):
        list(sync.map("other", [b""]))
    with pytest.raises(ValueError, match="window must be at least 1"):
        list(sync.map("echo", [b""], window=0))


def test_what_a_map_leaves_behind_is_cancelled(sync, client):
    answers = sync.map("echo", itertools.repeat(b"x"), window=20, timeout=0.2)
    with pytest.raises(TimeoutError):
        next(answers)
    wait_for(lambda: client.xlen(keys.lane("echo", "1.0", keys.NORMAL)) == 0, what="an empty lane")


def test_jobs_come_as_they_finish(sync, start_replica):
    release = threading.Event()
    late = sync.submit("echo", "late")
    start_replica(held(release))
    wait_for(lambda: late.status().state == "running", what="the first replica")
    early = sync.submit("echo", "early")
    start_replica()
    finished = sync.as_completed([late, early])
    assert next(finished).result(60).text == "early"
    release.set()
    assert [job.id for job in finished] == [late.id]


def test_a_failed_job_is_finished_too(sync, start_replica):
    start_replica(refuses_3)
    jobs = sync.submit_many("echo", [b"2", b"3"])
    assert {job.id for job in sync.as_completed(jobs)} == {job.id for job in jobs}
    with pytest.raises(JobFailed):
        jobs[1].result()


def test_a_wait_that_is_too_short_raises(sync):
    job = sync.submit("echo", b"")
    with pytest.raises(TimeoutError, match="is still queued"):
        list(sync.as_completed([job], timeout=0.05))
    with pytest.raises(JobNotFound):
        list(sync.as_completed(["echo:no"]))


async def test_both_exist_for_event_loops(redis_url, spec, start_replica):
    start_replica()
    async with AsyncClient(redis_url) as client:
        assert [answer.json() async for answer in client.map("echo", range(9), window=4)] == list(range(9))
        jobs = await client.submit_many("echo", range(9))
        finished = [job async for job in client.as_completed(jobs)]
        results = await asyncio.gather(*(job.result() for job in finished))
        assert sorted(result.json() for result in results) == list(range(9))
