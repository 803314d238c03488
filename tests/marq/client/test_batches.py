"""`batch` of both clients: jobs that are submitted together."""

import json

import pytest

from marq import keys
from marq.client import AsyncClient, Client, JobFailed
from marq.errors import BadRequest, JobNotFound
from marq.queue.replies.entries import Reply
from marq.webhooks.inspection import Webhooks


@pytest.fixture
def sync(redis_url, spec):
    with Client(redis_url) as client:
        yield client


def refuses_3(request):
    return Reply(request.id, 400 if request.body == b"3" else 200, request.body)


def test_the_answers_come_in_the_order_of_the_rows(sync, start_replica):
    start_replica()
    batch = sync.batch("echo", range(300), tags=["night"])
    assert [result.json() for result in batch.results()] == list(range(300))
    state = batch.wait()
    assert (state.is_finished, state.jobs, state.counts["succeeded"]) == (True, 300, 300)
    assert sync.counts(tag="night")["succeeded"] == 300


def test_progress_and_events_end_with_the_last_job(sync, start_replica):
    batch = sync.batch("echo", [b"1", b"3"])
    states = batch.progress()
    first = next(states)
    assert (first.counts["queued"], first.is_finished) == (2, False)
    events = batch.events()
    assert next(events).kind == "open"
    start_replica(refuses_3)
    assert [event.kind for event in events] == ["ended", "ended", "finished"]
    *_, last = states
    assert (last.is_finished, last.counts["succeeded"], last.counts["failed"]) == (True, 1, 1)
    with pytest.raises(JobFailed, match="status 400"):
        batch.jobs[1].result()


def test_one_call_cancels_the_batch(sync):
    batch = sync.batch("echo", [b"1", b"2"])
    with pytest.raises(TimeoutError, match="has not finished"):
        batch.wait(timeout=0.01)
    assert batch.cancel().cancelled == 2
    assert batch.wait().counts["cancelled"] == 2
    assert batch.cancel().cancelled == 0


def test_a_batch_with_a_key_is_submitted_once(sync):
    first = sync.batch("echo", [b"1", b"2"], key="nightly-7")
    again = sync.batch("echo", [b"1", b"2", b"3"], key="nightly-7")
    assert (again.id, again.jobs[0].id) == (first.id, first.jobs[0].id)
    assert first.state().jobs == 3
    assert str(first) == first.id
    assert repr(again) == f"Batch({first.id!r}, 3 jobs)"


def test_what_no_batch_has_is_refused(sync):
    with pytest.raises(BadRequest, match="no input_url"):
        sync.batch("echo", [b"1"], input_url="https://example.org")
    with pytest.raises(BadRequest, match="up to 7"):
        sync.batch("echo", [b"1"], tags=list("abcdefgh"))


async def test_one_message_says_that_an_asynchronous_batch_has_finished(redis_url, client, spec):
    async with AsyncClient(redis_url) as submitter:
        batch = await submitter.batch("echo", [b"1", b"2"], webhook="https://example.org/hook")
        assert repr(batch) == f"AsyncBatch({batch.id!r}, 2 jobs)"
        await batch.cancel()
        [kept] = Webhooks(client).page(None, None, 10)
        assert json.loads(kept.message.body)["data"]["group"] == str(batch)
        # And when its record is gone, it is not found
        client.delete(keys.group("echo", batch.id.partition(":")[2]))
        with pytest.raises(JobNotFound, match="Group not found"):
            await batch.state()
