"""Runs that are jobs, against a real Valkey: the test is the replicas of all nodes."""

import asyncio
import json

import pytest
from workflow_plant import DIAMOND, Plant, workflow_of

from marq import keys
from marq.errors import BadRequest, IdempotencyConflict
from marq.jobs import listing
from marq.jobs.cancellation import cancel_many
from marq.jobs.jobs import Jobs
from marq.jobs.listing import JobFilter
from marq.jobs.options import JobOptions
from marq.jobs.submission import KeyedRequest
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.publishing import NEVER
from marq.workflows.runs import Runs


@pytest.fixture
def plant(redis_url):
    def make(dag=None, **settings):
        return Plant(redis_url, workflow_of(dag or DIAMOND, **settings))

    return make


def act(plant, play):
    """Calls `play(submit, jobs)` in an event loop."""

    async def run():
        broker = Broker(plant.url)
        await broker.start()
        runs, jobs = Runs(broker), Jobs(broker)

        async def submit(body=b"in", head=None, key="", **options):
            fields = EntryFields(body, head or EntryHead())
            request = KeyedRequest("w", None, key, fields) if key else None
            run_id = request.id if request else b"r1"
            return await runs.submit(plant.workflow, run_id, fields, JobOptions(**options), request)

        try:
            return await play(submit, jobs)
        finally:
            jobs.stop()
            await broker.stop()

    return asyncio.run(run())


def test_the_record_says_which_nodes_are_done(plant):
    site = plant()

    async def play(submit, jobs):
        job_id, is_new = await submit(tags=("t",))
        assert (job_id, is_new) == ("w:r1", True)
        assert (await jobs.get(job_id)).state == "queued"
        site.work("a", b"A")
        site.work("b", b"B")
        record = await jobs.get(job_id)
        assert record.state == "running"
        assert {node.name: node.state for node in record.nodes} == {"a": "done", "b": "done", "c": "queued"}
        site.work("c", b"C")
        site.work("d", b"D")
        record = await jobs.wait(job_id, 30)
        assert (record.state, record.status, record.body) == ("succeeded", 200, b"D")
        assert [node.state for node in record.nodes] == ["done"] * 4
        described = record.to_dict()["nodes"]
        assert described["d"]["tries"] == 1
        assert described["a"]["queued"] <= described["a"]["finished"] <= described["d"]["finished"]

    act(site, play)
    assert site.queued == 0
    kept = site.redis.hkeys("marq:{w}:job:r1")
    assert not [
        field for field in kept if field.startswith((b"out:", b"need:")) or field in (b"plan", b"input")
    ]
    assert site.redis.pttl("marq:{w}:job:r1") > 0


def test_the_node_that_has_failed_is_named_with_the_reason(plant):
    site = plant(retry_attempts=1)

    async def play(submit, jobs):
        job_id, _ = await submit()
        site.work("a", b"A")
        site.work("b", b'{"message": "Prediction failed"}', 503)
        site.work("b", b'{"message": "Prediction failed"}', 503)
        record = await jobs.wait(job_id, 30)
        assert (record.state, record.status) == ("failed", 500)
        assert (record.failed_node, record.reason) == ("b", "Prediction failed")
        assert json.loads(record.body)["message"] == "Error executing b"
        assert {node.name: (node.state, node.tries) for node in record.nodes} == {
            "a": ("done", 1), "b": ("failed", 2), "c": ("queued", 1)
        }  # fmt: skip

    act(site, play)
    assert site.queued == 0


def test_a_run_that_does_not_start_in_time_is_expired(plant):
    site = plant()

    async def play(submit, jobs):
        job_id, _ = await submit(head=EntryHead(deadline=b"1"))
        site.answer("a", site.take("a"), b"{}", 504, started=NEVER)
        assert (await jobs.wait(job_id, 30)).state == "expired"

    act(site, play)


def test_a_cancelled_run_leaves_its_lanes_and_does_not_go_on(plant):
    site = plant()

    async def play(submit, jobs):
        job_id, _ = await submit()
        site.work("a", b"A")
        running = site.take("b")
        assert await jobs.cancel(job_id)
        assert site.queued == 0
        site.answer("b", running, b"B")
        assert site.queued == 0
        assert (await jobs.get(job_id)).state == "cancelled"
        assert not await jobs.cancel(job_id)

    act(site, play)


def test_runs_are_listed_and_cancelled_with_the_jobs_of_the_name(plant):
    site = plant()

    async def play(submit, jobs):
        await submit(priority=keys.LOW, tags=("t",))
        page = await listing.page(jobs.broker, ["w"], JobFilter("", "", "t"), 10)
        assert [(record.id, record.priority) for record in page.jobs] == [("w:r1", "low")]
        assert page.counts["queued"] == 1
        done = await cancel_many(jobs.broker, "w", JobFilter("", "", ""), 10)
        assert (done.cancelled, done.remaining) == (1, 0)
        page = await listing.page(jobs.broker, ["w"], JobFilter("", "", "t"), 10)
        assert page.counts["cancelled"] == 1

    act(site, play)
    assert site.queued == 0


def test_a_key_starts_one_run(plant):
    site = plant()

    async def play(submit, jobs):
        first, is_new = await submit(key="k")
        second, is_new_again = await submit(key="k")
        assert first == second
        assert (is_new, is_new_again) == (True, False)
        with pytest.raises(IdempotencyConflict):
            await submit(b"other", key="k")

    act(site, play)
    assert site.queued == 1


@pytest.mark.parametrize(
    "options", [{"retries": 1}, {"not_before": 2e9}, {"max_attempts": 2}, {"retry_on": [500]}]
)
def test_options_that_runs_do_not_have_are_refused(plant, options):
    async def play(submit, jobs):
        with pytest.raises(BadRequest):
            await submit(**options)

    act(plant(), play)
