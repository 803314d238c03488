"""The batching rule, with numbers alone."""

import pytest

from marq.registry.spec import ModelSpec
from workers.replica.waiting import (
    AHEAD_S,
    LINGER,
    LONGEST_PAUSE_S,
    MEMORY,
    MIN_HANDLER_S,
    MIN_PAUSE_S,
    MOST_AHEAD,
    MOST_LOOKS,
    PROBE_EVERY,
    WaitingRule,
    batches_ahead,
    pause_s,
)


def rule(batch_size: int = 8, delay_ms: int = 100, batching: str = "adaptive") -> WaitingRule:
    return WaitingRule(
        ModelSpec(
            "m",
            "1.0",
            "m.mar",
            "/m.mar",
            "handler.py",
            batch_size=batch_size,
            max_batch_delay_ms=delay_ms,
            batching=batching,
        )
    )


@pytest.mark.parametrize("batching", ["adaptive", "fixed"])
def test_a_full_batch_does_not_wait(batching):
    assert rule(batch_size=4, batching=batching).longest_s(4, 0.0, 1.0) == 0.0


def test_fixed_batching_waits_for_the_rest_of_the_delay():
    fixed = rule(delay_ms=200, batching="fixed")
    assert fixed.longest_s(1, 0.0, 0.0) == pytest.approx(0.2)
    assert fixed.longest_s(1, 0.15, 0.001) == pytest.approx(0.05)
    assert fixed.longest_s(1, 0.3, 5.0) < 0


def test_other_rows_wait_until_their_delay_has_passed():
    assert rule(delay_ms=100).longest_s(1, 0.03, 5.0) == pytest.approx(0.25)  # LINGER of a slow handler
    assert rule(delay_ms=1000).longest_s(1, 0.3, 5.0) == pytest.approx(0.7)


def test_no_wait_takes_longer_than_the_handler():
    assert rule(delay_ms=5000).longest_s(1, 0.0, 0.05) == 0.05


def test_rows_whose_delay_has_passed_wait_for_a_moment():
    assert rule(delay_ms=0).longest_s(1, 0.5, 0.2) == pytest.approx(0.2 * LINGER)
    assert rule(delay_ms=0).longest_s(1, 0.5, 0.002) == MIN_PAUSE_S


def test_a_very_fast_handler_does_not_wait():
    assert rule(delay_ms=5000).longest_s(1, 0.0, MIN_HANDLER_S / 2) == 0.0


def test_a_batch_is_complete_with_as_many_rows_as_the_largest_recent_one():
    adaptive = rule()
    assert adaptive.expected == 0
    assert adaptive.is_complete(1, batches=1)
    for rows in (1, 3, 2):
        adaptive.record(rows)
    assert adaptive.expected == 3
    assert not adaptive.is_complete(2, batches=1)
    assert adaptive.is_complete(3, batches=1)


def test_a_large_batch_is_forgotten_after_a_while():
    adaptive = rule()
    adaptive.record(5)
    for _ in range(MEMORY):
        adaptive.record(1)
    assert adaptive.is_complete(1, batches=1)


def test_more_rows_than_fit_into_a_batch_are_not_expected():
    adaptive = rule(batch_size=8)
    adaptive.record(50)
    assert adaptive.expected == 8


def test_now_and_then_it_finds_out_whether_more_rows_would_come():
    adaptive = rule()
    adaptive.record(1)
    probes = [batch for batch in range(1, 3 * PROBE_EVERY + 1) if not adaptive.is_complete(1, batch)]
    assert probes == [PROBE_EVERY, 2 * PROBE_EVERY, 3 * PROBE_EVERY]


def test_fixed_batching_expects_more_rows_until_the_batch_is_full():
    assert not rule(batching="fixed").is_complete(7, batches=1)


def test_there_are_few_looks_during_a_wait():
    assert pause_s(1.0) == 1.0 / MOST_LOOKS
    assert pause_s(MIN_PAUSE_S) == MIN_PAUSE_S


def test_a_batch_that_fills_up_during_a_long_wait_runs_soon():
    assert pause_s(60.0) == LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("handler_s", "batches"), [(0.0, 1), (AHEAD_S / 4, 4), (AHEAD_S * 2, 1), (1e-9, MOST_AHEAD)]
)
def test_a_fast_handler_gets_several_batches_at_once(handler_s, batches):
    assert batches_ahead(handler_s) == batches
