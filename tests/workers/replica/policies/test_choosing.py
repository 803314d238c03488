"""A plugin's policy decides which rows run together, and how long they wait; every row runs in the end."""

import threading

import pytest
from clock import FakeClock

from marq import keys
from marq.plugins.discovery import Found, Plugin, PluginError
from marq.plugins.protocols import BATCHING
from workers.replica.policies import choosing
from workers.replica.policies.choosing import MOST_PASSED, WINDOW, batcher_for, choosing_batcher
from workers.replica.policies.policy import Policy


class Given:
    """A policy of two functions."""

    protocol = 1

    def __init__(self, choose, wait_s=lambda held: 0.0):
        self.choose, self.wait_s = choose, wait_s


def all_of(held):
    return range(min(len(held.rows), held.batch_size))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(plain, register, clock):
    def make(choose=all_of, wait_s=lambda held: 0.0, limit_s=60.0, **settings):
        plugin = Plugin(Found(BATCHING, "sizes", "m:A", "sizes", "1.0"), Given(choose, wait_s))
        spec = register(**{"batch_size": 4, "max_batch_delay_ms": 0, "batching": "sizes", **settings})
        return choosing_batcher(Policy(plugin, limit_s), plain, spec, "pool/0/1", clock=clock)

    return make


def next_batch(batcher):
    if not batcher.held:
        batcher.fetch([])
    return [request.body for request in batcher.take()]


def like_sizes(held):
    return [n for n, row in enumerate(held.rows) if row.bytes == held.rows[0].bytes][: held.batch_size]


def test_the_policy_chooses_which_rows_run_together(make, add):
    batcher = make(like_sizes)
    add(b"a", b"long", b"b", b"text", b"c")
    assert [next_batch(batcher), next_batch(batcher)] == [[b"a", b"b", b"c"], [b"long", b"text"]]
    assert batcher.held == 0


def test_it_chooses_from_more_rows_than_a_batch_has(make, add):
    seen = []
    batcher = make(lambda held: seen.append(len(held.rows)) or like_sizes(held))
    add(*[b"a", b"long"] * 20)
    assert next_batch(batcher) == [b"a"] * 4
    assert seen == [WINDOW * 4]


def test_it_sees_the_rows_with_their_facts(make, add, client):
    seen = []
    batcher = make(lambda held: seen.append(held) or all_of(held), max_batch_delay_ms=250)
    batcher.record_handler_time(0.25)
    add(b"12345", lane=keys.LOW, type="text/plain", deadline=1_700_000_000_000)
    next_batch(batcher)
    [held] = seen
    [row] = held.rows
    assert (row.bytes, row.priority, row.content_type, row.deadline_ms) == (
        5, "low", "text/plain", 1_700_000_000_000,
    )  # fmt: skip
    assert (held.batch_size, held.max_batch_delay_s, held.handler_s) == (4, 0.25, 0.25)
    assert row.queued_ms > 1_700_000_000_000


def test_the_wait_is_the_policy_s_within_the_batching_delay(make, add, clock):
    asked = []
    batcher = make(wait_s=lambda held: asked.append(len(held.rows)) or 1000.0, max_batch_delay_ms=300)
    clock.after(0.1, lambda: add(b"2"))
    add(b"1")
    began = clock.monotonic()
    assert next_batch(batcher) == [b"1", b"2"]
    assert clock.monotonic() - began < 0.4
    assert {1, 2} <= {*asked}


def test_the_wait_ends_when_the_policy_says_so(make, add, clock):
    batcher = make(wait_s=lambda held: 0.0 if len(held.rows) > 1 else 1000.0, max_batch_delay_ms=60_000)
    clock.after(0.1, lambda: add(b"2"))
    add(b"1")
    began = clock.monotonic()
    assert next_batch(batcher) == [b"1", b"2"]
    assert clock.monotonic() - began < 20


@pytest.mark.parametrize(
    "wrong",
    [
        lambda held: 1 / 0,
        lambda held: [],
        lambda held: [0, 0],
        lambda held: [-1],
        lambda held: [99],
        lambda held: range(5),
        lambda held: None,
        lambda held: exit(3),
    ],
)
def test_rows_run_in_marq_s_own_order_where_the_policy_fails(make, add, caplog, wrong):
    batcher = make(wrong)
    add(*[b"%d" % number for number in range(6)])
    assert next_batch(batcher) == [b"0", b"1", b"2", b"3"]
    assert next_batch(batcher) == [b"4", b"5"]
    assert "marq.batching sizes (package sizes 1.0, installed) failed" in caplog.text


def test_rows_run_also_while_the_policy_hangs(make, add, caplog):
    held_up, calls = threading.Event(), []

    def choose(held):
        calls.append(len(held.rows))
        held_up.wait()
        return [0]

    batcher = make(choose, limit_s=0.1)
    add(*[b"%d" % number for number in range(8)])
    assert next_batch(batcher) == [b"0", b"1", b"2", b"3"]
    assert next_batch(batcher) == [b"4", b"5", b"6", b"7"]
    held_up.set()
    assert calls == [8]  # it is not asked again while it hangs
    assert "does not answer within 0.1 s" in caplog.text


def test_a_row_is_not_passed_over_for_ever(make, add):
    batcher = make(lambda held: [len(held.rows) - 1], batch_size=1)
    add(*[b"%d" % number for number in range(MOST_PASSED + 5)])
    batches = [next_batch(batcher) for _ in range(MOST_PASSED + 1)]
    assert batches[-1] == [b"0"]
    assert [b"0"] not in batches[:-1]


def test_a_policy_that_is_not_there_is_named(plain, register, monkeypatch):
    monkeypatch.delenv("MARQ_PLUGINS_PATH", raising=False)
    with pytest.raises(PluginError, match=r"no plugin sizes in the group marq\.batching; found: none"):
        batcher_for(plain, register(batching="sizes"), "pool/0/1")


def test_marq_s_own_policies_need_no_plugin(plain, register, monkeypatch):
    monkeypatch.setattr(choosing, "Policy", None)
    for name in ("adaptive", "fixed"):
        assert batcher_for(plain, register(batching=name), "pool/0/1").held == 0
