"""Runs against a real Valkey: the test is the replicas of all nodes."""

import json

import pytest
from workflow_plant import DIAMOND, STARTED, Plant, running, spec_of, workflow_of

from marq import keys
from marq.errors import ServiceUnavailable
from marq.queue.entries import EntryHead, row_fields
from marq.queue.giving_up import refusals
from marq.queue.publishing import NEVER, Publisher
from marq.queue.redelivery import requeue
from marq.queue.replies.entries import Reply
from marq.workflows.timeouts import end_overdue


@pytest.fixture
def plant(redis_url):
    def make(dag=None, **settings):
        return Plant(redis_url, workflow_of(dag or DIAMOND, **settings))

    return make


def test_a_join_waits_for_all_its_parents_and_is_queued_once(plant):
    site = plant()

    def play():
        assert site.work("a", b"A").body == b"in"
        assert site.work("b", b"B").body == b"A"
        assert site.take("d") is None
        assert site.work("c", b"C").body == b"A"
        joined = site.take("d")
        assert row_fields(joined.body) == {"b": b"B", "c": b"C"}
        assert site.take("d") is None
        site.answer("d", joined, b"D")

    reply = running(site, play)
    assert (reply.id, reply.status, reply.body) == (b"r1", 200, b"D")
    assert site.left == []
    assert site.queued == 0


def test_any_bytes_pass_a_join(plant):
    site, odd = plant(), bytes(range(256)) * 4 + b"7:x,:,\r\n"

    def play():
        site.work("a", odd)
        site.work("b", odd)
        site.work("c", b"")
        joined = site.take("d")
        assert row_fields(joined.body) == {"b": odd, "c": b""}
        site.answer("d", joined, odd)

    assert bytes(running(site, play).body) == odd


def test_only_the_start_node_gets_the_clients_content_type_but_all_its_headers_and_deadline(plant):
    site = plant({"a": ["b"]})
    head = EntryHead(type=b"text/plain", headers=b'{"x": "y"}', deadline=b"99999999999999")

    def play():
        first = site.work("a", b"A")
        second = site.work("b", b"B")
        assert (first.type, second.type) == (b"text/plain", b"")
        assert first.headers == second.headers == b'{"x": "y"}'
        assert first.deadline == second.deadline == b"99999999999999"
        assert first.id == second.id == b"r1"

    running(site, play, head)


def test_all_nodes_have_the_priority_of_the_run(plant):
    site = plant({"a": ["b"]})

    def play():
        site.answer("a", site.take("a", lane=keys.HIGH), b"A")
        site.answer("b", site.take("b", lane=keys.HIGH), b"B")

    assert running(site, play, priority=keys.HIGH).body == b"B"


def test_an_answer_that_comes_twice_counts_once(plant):
    site = plant({"a": ["b"]})

    def play():
        request = site.take("a")
        site.answer("a", request, b"A")
        site.answer("a", request, b"again")
        assert site.work("b", b"B").body == b"A"
        assert site.take("b") is None

    assert running(site, play).body == b"B"


def test_the_answer_of_a_replica_that_was_taken_for_lost_is_dropped(plant):
    site = plant({"a": ["b"]})

    def play():
        late = site.take("a", "lost/0/1")
        requeue(site.connection, spec_of(site.workflow, "a"), "lost/0/1", 3, [late.ref])
        site.answer("a", late, b"late")
        assert site.take("b") is None
        site.answer("a", site.take("a", lane=keys.FRONT), b"A")
        assert site.work("b", b"B").body == b"A"

    assert running(site, play).body == b"B"


def test_a_failed_node_is_tried_again(plant):
    site = plant({"a": ["b"]}, retry_attempts=2)

    def play():
        for _ in range(2):
            site.work("a", b"no", 503)
        site.work("a", b"A")
        site.work("b", b"B")

    assert running(site, play).body == b"B"


def test_a_node_that_always_fails_ends_the_run_and_the_other_branches(plant):
    site = plant(retry_attempts=1)

    def play():
        site.work("a", b"A")
        site.work("b", b"no", 404)
        site.work("b", b"no", 404)

    reply = running(site, play)
    assert (reply.status, json.loads(reply.body)["message"]) == (500, "Error executing b")
    assert site.left == []
    assert site.queued == 0, "the entry of c was taken out"


def test_a_row_that_was_given_up_is_not_tried_again(plant):
    site = plant({"a": ["b"]}, retry_attempts=5)

    def play():
        site.answer("a", site.take("a"), b"died", 500, is_buried=True)

    assert running(site, play).status == 500
    assert site.queued == 0


@pytest.mark.parametrize("status", [503, 504])
def test_a_node_that_never_ran_is_answered_with_its_own_reason(plant, status):
    site = plant({"a": ["b"]}, retry_attempts=5)

    def play():
        site.work("a", b"A")
        site.answer("b", site.take("b"), b'{"code": 1}', status, started=NEVER)

    reply = running(site, play)
    assert (reply.status, reply.body) == (status, b'{"code": 1}')


def test_a_model_that_is_unregistered_answers_the_runs_that_wait_for_it(plant):
    site = plant()

    def play():
        site.work("a", b"A")
        spec = spec_of(site.workflow, "b")
        lane = keys.lane(spec.name, spec.version)
        entry, fields = site.redis.xreadgroup(keys.GROUP, "removal", {lane: ">"})[0][1][0]
        flat = [part for pair in fields.items() for part in pair]
        error = ServiceUnavailable("Model w__b was unregistered.")
        site.connection.send(refusals(spec, lane, [(entry, flat)], error, 1000))

    reply = running(site, play)
    assert (reply.status, json.loads(reply.body)["message"]) == (503, "Model w__b was unregistered.")
    assert site.left == []


def delete_lanes(site, node):
    spec = spec_of(site.workflow, node)
    site.redis.delete(*keys.lanes(spec.name, spec.version))


def test_a_model_whose_lanes_are_gone_ends_the_run(plant):
    site = plant({"a": ["b"]})

    def play():
        delete_lanes(site, "b")
        site.work("a", b"A")

    reply = running(site, play)
    assert reply.status == 503
    assert "node b" in json.loads(reply.body)["message"]
    assert site.left == []


def test_a_start_node_without_lanes_starts_nothing(plant):
    site = plant({"a": ["b"]})
    delete_lanes(site, "a")
    with pytest.raises(ServiceUnavailable):
        running(site, lambda: None)
    assert site.left == []


def test_a_try_that_takes_too_long_is_made_again_and_its_late_answer_dropped(plant):
    site = plant({"a": ["b"]}, timeout_ms=1, retry_attempts=1)

    def play():
        slow = site.take("a")
        while not end_overdue(site.redis):
            pass
        site.answer("a", slow, b"late")
        site.work("a", b"A")
        site.work("b", b"B")

    assert running(site, play).body == b"B"


def test_a_node_whose_tries_all_take_too_long_ends_the_run(plant):
    site = plant({"a": ["b"]}, timeout_ms=1, retry_attempts=1)

    def play():
        for _ in range(2):
            while not end_overdue(site.redis):
                pass

    reply = running(site, play)
    assert (reply.status, json.loads(reply.body)["message"]) == (500, "Error executing a")
    assert (site.queued, site.left) == (0, [])


def test_a_cancelled_run_leaves_nothing_and_an_answer_to_it_changes_nothing(plant):
    site = plant()

    def play(runs):
        site.work("a", b"A")
        running_one = site.take("b")

        async def cancel():
            await runs.cancel(site.workflow, b"r1")
            assert (site.left, site.queued) == ([], 0)
            site.answer("b", running_one, b"B")
            assert (site.left, site.queued) == ([], 0)

        return cancel()

    running(site, play)


def test_leaves_make_one_object_in_the_order_of_the_graph(plant):
    site = plant({"a": ["b", "c"]})

    def play():
        site.work("a", b"A")
        site.work("c", b' {"x": 1.50}')
        site.work("b", b"{}")

    assert running(site, play).body == b'{"b": {}, "c":  {"x": 1.50}}'


@pytest.mark.parametrize("odd", [b"[1]", b"text", b"", b'{"x": ', b"\xff\xfe"])
def test_one_of_several_leaves_that_is_not_an_object_fails_the_run(plant, odd):
    site = plant({"a": ["b", "c"]})

    def play():
        site.work("a", b"A")
        site.work("b", b"{}")
        site.work("c", odd)

    reply = running(site, play)
    assert reply.status == 500
    assert json.loads(reply.body)["message"] == "The answer of node c is not a JSON object."
    assert site.left == []


def test_an_entry_that_names_another_key_as_its_run_harms_no_one(plant):
    site = plant({"a": ["b"]})
    site.redis.set("marq:{w}:run:text", "x")
    lane = keys.lane("w__a", "1.0")
    for run in ("marq:{w}:run:text", "marq:{w}:run:unknown"):
        site.redis.xadd(lane, {"body": b"", "run": run, "node": "a"})
        site.work("a", b"A")
    assert site.queued == 0
    assert site.redis.get("marq:{w}:run:text") == b"x"


def test_ordinary_answers_of_the_same_batch_are_published_as_ever(plant):
    site = plant({"a": ["b"]})

    def play():
        site.redis.xadd(keys.lane("w__a", "1.0"), {"body": b"plain", "reply": "answers"})
        requests = [site.take("a"), site.take("a")]
        publisher = Publisher(spec_of(site.workflow, "a"), "cpu")
        answers = [(request, Reply(request.id, 200, b"A")) for request in requests]
        site.connection.send(publisher.commands(answers, STARTED))
        assert site.redis.xrange("answers")[0][1][b"body"] == b"A"
        site.work("b", b"B")

    assert running(site, play).body == b"B"
    assert site.queued == 0
