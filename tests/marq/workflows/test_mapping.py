"""Nodes over a list, against a real Valkey: the test is the replicas of all nodes."""

import asyncio
import json

import pytest
from workflow_plant import Plant, running, workflow_of

from marq import keys
from marq.jobs.jobs import Jobs
from marq.jobs.options import JobOptions
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead, row_fields
from marq.queue.publishing import NEVER
from marq.queue.redelivery import requeue
from marq.workflows.runs import Runs
from marq.workflows.timeouts import end_overdue

LINE = {"a": ["m"], "m": ["b"]}


@pytest.fixture
def plant(redis_url):
    def make(dag=None, mapped=("m",), **settings):
        return Plant(redis_url, workflow_of(dag or LINE, mapped=mapped, **settings))

    return make


def test_each_element_is_an_entry_and_the_answers_are_one_list_in_their_order(plant):
    site, head = plant(), EntryHead(type=b"text/plain", headers=b'{"x": "y"}', params=b"p=1")

    def play():
        site.work("a", b' [1, "two" ,{"n": [3]}]\n')
        entries = [site.take("m") for _ in range(3)]
        assert site.take("m") is None
        assert [entry.body for entry in entries] == [b"1", b'"two"', b'{"n": [3]}']
        assert [entry.node for entry in entries] == [b"m#0", b"m#1", b"m#2"]
        assert {(entry.type, entry.headers, entry.params) for entry in entries} == {
            (b"application/json", b'{"x": "y"}', b"")
        }
        for entry in reversed(entries):
            assert site.take("b") is None
            site.answer("m", entry, b"[%s]" % entry.body)
        assert site.work("b", b"B").body == b'[[1], ["two"], [{"n": [3]}]]'

    assert running(site, play, head).body == b"B"
    assert (site.left, site.queued) == ([], 0)


ODD = [
    "12345678901234567890123", "0.10000000000000000555", "1E+2", "-0.0", "null", "true", "[]", "{}",
    r'"]"', r'"a,b"', r'"\""', r'"\\"', r'"\\\"],["', '"ü"', r'"\u00fc"', '{"a": [1, {"b": "}"}], "c": "]"}',
    "[[1, 2], [3]]", '""',
]  # fmt: skip


def test_elements_are_passed_as_they_were_written(plant):
    site = plant()

    def play():
        site.work("a", f"[{','.join(ODD)}]".encode())
        for text in ODD:
            assert site.work("m", text.encode()).body.decode() == text
        assert site.work("b", b"B").body.decode() == f"[{', '.join(ODD)}]"

    running(site, play)


@pytest.mark.parametrize("given", [b"[]", b" [ \n ] "])
def test_an_empty_list_is_answered_at_once(plant, given):
    site = plant()

    def play():
        site.work("a", given)
        assert site.take("m") is None
        assert site.work("b", b"B").body == b"[]"

    assert running(site, play).body == b"B"
    assert site.left == []


def test_the_client_may_send_the_list_and_get_the_answers(plant):
    site = plant({"m": []})

    def play():
        site.work("m", b"10")
        site.work("m", b"20")

    assert running(site, play, body=b"[1, 2]").body == b"[10, 20]"
    assert site.left == []


def test_an_empty_list_of_the_client_is_the_answer(plant):
    site = plant({"m": []})
    assert running(site, lambda: None, body=b"[]").body == b"[]"
    assert (site.left, site.queued) == ([], 0)


def test_lists_may_follow_lists_and_joins(plant):
    site = plant({"a": ["m", "c"], "m": ["n"], "n": ["j"], "c": ["j"]}, mapped=("m", "n"))

    def play():
        site.work("a", b"[1, 2]")
        site.work("c", b"C")
        for node in "mn":
            for _ in range(2):
                assert site.take("j") is None
                entry = site.take(node)
                site.answer(node, entry, b"%s0" % entry.body)
        assert row_fields(site.work("j", b"J").body) == {"n": b"[100, 200]", "c": b"C"}

    assert running(site, play).body == b"J"


def test_a_chosen_node_over_a_list_gets_the_list_that_was_chosen_for_it(redis_url):
    workflow = workflow_of({"a": ["m", "x"], "m": ["b"], "x": ["b"]}, ("a",), ("m",))
    site = Plant(redis_url, workflow)

    def play():
        site.work("a", b"m")
        assert [site.work("m", b"7").body for _ in range(2)] == [b"1", b"2"]
        assert row_fields(site.work("b", b"B").body) == {"m": b"[7, 7]"}

    assert running(site, play, body=b"[1, 2]").body == b"B"


NO_LISTS = [b"", b"7", b'{"a": 1}', b"[1", b"[1,]", b"[1] x", b'["\\"]', b"\xff", b"text"]


@pytest.mark.parametrize("given", NO_LISTS)
def test_an_answer_that_is_not_a_list_fails_the_run(plant, given):
    site = plant()
    reply = running(site, lambda: site.work("a", given))
    assert reply.status == 500
    assert json.loads(bytes(reply.body))["message"] == "The input of node m is not a JSON array."
    assert (site.left, site.queued) == ([], 0)


@pytest.mark.parametrize("given", NO_LISTS)
def test_a_request_that_is_not_a_list_is_the_clients_fault(plant, given):
    site = plant({"m": []})
    reply = running(site, lambda: None, body=given)
    assert reply.status == 400
    assert (site.left, site.queued) == ([], 0)


def test_a_list_has_at_most_1000_elements(plant):
    site = plant({"m": []})
    reply = running(site, lambda: None, body=json.dumps([0] * 1001).encode())
    assert reply.status == 400
    assert json.loads(bytes(reply.body))["message"] == "The input of node m has more than 1000 elements."

    def play(runs):
        assert site.queued == 1000
        return runs.cancel(site.workflow, b"r1")

    running(site, play, body=json.dumps([0] * 1000).encode())
    assert (site.left, site.queued) == ([], 0)


def test_an_answer_to_an_element_that_is_not_json_fails_the_run(plant):
    site = plant()

    def play():
        site.work("a", b"[1, 2]")
        site.work("m", b"text")

    reply = running(site, play)
    assert reply.status == 500
    assert json.loads(bytes(reply.body))["message"] == "The answer of node m to element 0 is not JSON."
    assert (site.left, site.queued) == ([], 0)


def test_an_element_that_fails_is_tried_again_alone(plant):
    site = plant(retry_attempts=1)

    def play():
        site.work("a", b"[1, 2]")
        site.work("m", b"no", 503)
        assert site.work("m", b"20").body == b"2"
        assert site.work("m", b"10").body == b"1"
        assert site.work("b", b"B").body == b"[10, 20]"

    assert running(site, play).body == b"B"


def test_an_element_that_always_fails_ends_the_run_and_takes_out_the_others(plant):
    site = plant(retry_attempts=1)

    def play():
        site.work("a", b"[1, 2, 3]")
        site.work("m", b"10")
        for _ in range(3):
            request = site.take("m")
            good = request.body != b"2"
            site.answer("m", request, b"30" if good else b"no", 200 if good else 500)

    reply = running(site, play)
    assert (reply.status, json.loads(bytes(reply.body))["message"]) == (500, "Error executing m#1")
    assert (site.left, site.queued) == ([], 0)


def test_an_element_that_takes_too_long_is_tried_again(plant):
    site = plant({"m": []}, timeout_ms=1, retry_attempts=1)

    def play():
        slow = site.take("m")
        while not end_overdue(site.redis):
            pass
        site.answer("m", slow, b"late")
        site.work("m", b"1")

    assert running(site, play, body=b"[0]").body == b"[1]"


def test_the_element_of_a_lost_replica_runs_on_another_and_counts_once(plant):
    site = plant({"m": []})

    def play():
        late = site.take("m", "lost/0/1")
        spec = site.spec("m")
        requeue(site.connection, spec, "lost/0/1", 3, [late.ref])
        site.answer("m", late, b"late")
        site.work("m", b"20")
        site.answer("m", site.take("m", lane=keys.FRONT), b"10")

    assert running(site, play, body=b"[1, 2]").body == b"[10, 20]"
    assert (site.left, site.queued) == ([], 0)


def test_a_cancelled_run_leaves_no_element(plant):
    site = plant()

    def play(runs):
        site.work("a", b"[1, 2, 3]")
        site.work("m", b"10")
        taken = site.take("m")

        async def cancel():
            await runs.cancel(site.workflow, b"r1")
            assert (site.left, site.queued) == ([], 0)
            site.answer("m", taken, b"20")
            assert (site.left, site.queued) == ([], 0)

        return cancel()

    running(site, play)


def act(plant, body, play):
    """Submits a run as a job and calls `play(job_id, jobs)` in an event loop."""

    async def run():
        broker = Broker(plant.url)
        await broker.start()
        jobs = Jobs(broker)
        try:
            fields = EntryFields(body, EntryHead())
            job_id, _ = await Runs(broker).submit(plant.workflow, b"r1", fields, JobOptions())
            await play(job_id, jobs)
        finally:
            jobs.stop()
            await broker.stop()

    asyncio.run(run())


def test_the_record_of_a_job_says_how_many_elements_are_done(plant):
    site = plant({"m": ["b"]})

    async def play(job_id, jobs):
        assert (await jobs.get(job_id)).state == "queued"
        site.work("m", b"10")
        record = await jobs.get(job_id)
        assert record.state == "running"
        described = record.to_dict()["nodes"]["m"]
        assert (described["state"], described["elements"], described["elements_done"]) == ("queued", 3, 1)
        site.work("m", b"20")
        site.work("m", b"30")
        site.work("b", b"B")
        record = await jobs.wait(job_id, 30)
        assert (record.state, record.body) == ("succeeded", b"B")
        described = record.to_dict()["nodes"]["m"]
        assert (described["state"], described["elements"], described["elements_done"]) == ("done", 3, 3)

    act(site, b"[1, 2, 3]", play)
    kept = site.redis.hkeys("marq:{w}:job:r1")
    assert not [field for field in kept if b"#" in field or field.startswith(b"out:")]


def test_the_element_that_has_failed_a_job_is_named(plant):
    site = plant({"m": []}, retry_attempts=1)

    async def play(job_id, jobs):
        site.work("m", b"10")
        for _ in range(2):
            site.work("m", b'{"message": "Prediction failed"}', 503)
        record = await jobs.wait(job_id, 30)
        assert (record.state, record.failed_node) == ("failed", "m")
        assert record.reason == "Element 1: Prediction failed"
        assert [(node.state, node.tries) for node in record.nodes] == [("failed", 2)]

    act(site, b"[1, 2]", play)
    assert site.queued == 0


def test_a_job_whose_list_is_empty_succeeds(plant):
    async def play(job_id, jobs):
        record = await jobs.wait(job_id, 30)
        assert (record.state, record.body) == ("succeeded", b"[]")

    act(plant({"m": []}), b"[]", play)


def test_a_job_that_goes_on_after_an_empty_list_can_be_read_and_cancelled(plant):
    site = plant({"m": ["b"]})

    async def play(job_id, jobs):
        assert (await jobs.get(job_id)).state == "running"
        assert await jobs.cancel(job_id)

    act(site, b"[]", play)
    assert site.queued == 0


def test_a_job_whose_request_is_not_a_list_fails(plant):
    async def play(job_id, jobs):
        record = await jobs.wait(job_id, 30)
        assert (record.state, record.status, record.failed_node) == ("failed", 400, "m")

    act(plant({"m": []}), b"7", play)


def test_elements_that_pass_the_deadline_expire_the_job(plant):
    site = plant({"m": []})

    async def play(job_id, jobs):
        site.answer("m", site.take("m"), b"{}", 504, started=NEVER)
        assert (await jobs.wait(job_id, 30)).state == "expired"

    act(site, b"[1, 2]", play)
    assert site.queued == 0
