"""Nodes whose answers name the nodes that follow, against a real Valkey: the test is the replicas."""

import json

import pytest
from workflow_plant import Plant, running, workflow_of

from marq import keys
from marq.queue.entries import EntryHead, row_fields

# a chooses between b and c; e joins c and d, which follows c
TWO_WAYS = {"a": ["b", "c"], "b": ["e"], "c": ["d", "e"], "d": ["e"]}


@pytest.fixture
def plant(redis_url):
    def make(dag, choose=("a",), **settings):
        return Plant(redis_url, workflow_of(dag, choose, **settings))

    return make


@pytest.mark.parametrize("answer", [b"b", b'"b"', b' ["b"]'])
def test_the_chosen_node_gets_what_the_choosing_one_got_and_the_others_do_not_run(plant, answer):
    site, head = plant(TWO_WAYS), EntryHead(type=b"text/plain", params=b'{"p": "1"}')

    def play():
        site.work("a", answer)
        chosen = site.take("b")
        assert (chosen.body, chosen.type, chosen.params) == (b"in", b"text/plain", b'{"p": "1"}')
        assert site.take("c") is None
        assert site.take("e") is None
        site.answer("b", chosen, b"B")
        joined = site.work("e", b"E")
        assert row_fields(joined.body) == {"b": b"B"}

    assert running(site, play, head).body == b"E"
    assert site.left == []
    assert site.queued == 0


def test_a_join_waits_for_the_chosen_parents_only(plant):
    site = plant(TWO_WAYS)

    def play():
        site.work("a", b"c")
        assert site.work("c", b"C").body == b"in"
        assert site.take("e") is None
        assert site.work("d", b"D").body == b"C"
        assert row_fields(site.work("e", b"E").body) == {"c": b"C", "d": b"D"}
        assert site.take("b") is None

    assert running(site, play).body == b"E"


def test_several_nodes_may_be_chosen(plant):
    site = plant(TWO_WAYS)

    def play():
        site.work("a", b'["c", "b"]')
        for name in "bcd":
            site.work(name, name.encode())
        assert row_fields(site.work("e", b"E").body) == {"b": b"b", "c": b"c", "d": b"d"}

    assert running(site, play).body == b"E"


def test_a_join_whose_other_parent_is_left_out_last_is_queued_then(plant):
    site = plant({"s": ["x", "a"], "x": ["j"], "a": ["b", "c"], "b": ["j"], "c": []})

    def play():
        site.work("s", b"S")
        site.work("x", b"X")
        assert site.take("j") is None
        site.work("a", b"c")
        assert row_fields(site.work("j", b'{"j": 1}').body) == {"x": b"X"}
        assert site.work("c", b'{"c": 1}').body == b"S"

    assert json.loads(bytes(running(site, play).body)) == {"c": {"c": 1}, "j": {"j": 1}}


def test_leaves_that_are_left_out_are_not_in_the_answer(plant):
    site = plant({"a": ["b", "c"]})

    def play():
        site.work("a", b"c")
        site.work("c", b'{"n": 1}')

    assert bytes(running(site, play).body) == b'{"c": {"n": 1}}'
    assert site.left == []


def test_choices_may_follow_choices(plant):
    site = plant({"s": ["a"], "a": ["b", "c"], "b": ["d", "e"]}, choose=("a", "b"))

    def play():
        site.work("s", b"S")
        assert site.work("a", b"b").body == b"S"
        assert site.work("b", b"e").body == b"S"
        assert site.work("e", b'{"e": 1}').body == b"S"

    assert bytes(running(site, play).body) == b'{"e": {"e": 1}}'


JUNK = [b"", b"d", b"[]", b"{}", b"7", b"null", b'["b", 7]', b'["b", "a"]', b"\xff"]


@pytest.mark.parametrize("answer", JUNK)
def test_an_answer_that_names_no_follower_fails_the_run(plant, answer):
    site = plant(TWO_WAYS)
    reply = running(site, lambda: site.work("a", answer))
    assert reply.status == 500
    assert b"The answer of node a does not name nodes that follow it." in bytes(reply.body)
    assert site.left == []
    assert site.queued == 0


def test_a_chosen_node_whose_model_is_gone_ends_the_run(plant):
    site = plant(TWO_WAYS)

    def play():
        site.redis.delete(keys.lane(site.workflow.model("c"), "1.0", keys.NORMAL))
        site.work("a", b'["b", "c"]')

    assert running(site, play).status == 503
    assert site.left == []
    assert site.queued == 0
