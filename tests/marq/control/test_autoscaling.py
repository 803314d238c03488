"""The rule by which elastic versions grow and shrink, against simulated traffic: no clock, no Redis."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from thread_replica import make_spec

from marq.control.autoscaling import Autoscaling, Load
from marq.registry.sizes.decisions import Decision
from marq.registry.spec import ModelSpec

SPEC = replace(make_spec("m"), min_workers=1, max_workers=12)
RESTING = replace(SPEC, min_workers=0, idle_timeout_s=60)
RATE = 50.0  # requests/s of one replica
START_S = 5.0  # of a replica
HOUR_S, DAY_S = 3600, 86_400
DEVICES = 1000


@dataclass
class Outcome:
    """What a simulation came to."""

    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    replica_s: float = 0.0
    ideal_s: float = 0.0  # with as many replicas as the arrivals need at each moment, at once
    late_s: float = 0.0  # in which requests had to wait longer than the target
    left: float = 0.0

    @property
    def sizes(self) -> list[int]:
        return [decision.replicas for _, decision in self.decisions]


def simulate(
    arrivals: Callable[[float], float], seconds: float, spec: ModelSpec = SPEC, size: int | None = None
) -> Outcome:
    """Second by second: requests arrive, about as a Poisson process has them, and replicas take them."""
    size = spec.min_workers if size is None else size
    rule, noise, outcome = Autoscaling(0.0, size), random.Random(15), Outcome()
    ready, waiting = size, 0.0
    starting: list[float] = []
    for second in range(int(seconds)):
        rate = arrivals(second)
        arrived = max(0, round(noise.gauss(rate, math.sqrt(rate)))) if rate else 0
        ready += sum(moment <= second for moment in starting)
        starting = [moment for moment in starting if moment > second]
        waiting += arrived
        served = min(waiting, ready * RATE)
        waiting -= served
        busy = (served, float(ready)) if waiting else (0.0, 0.0)
        load = Load(int(waiting), not (waiting or arrived), served, *busy)
        if decision := rule.look(second, spec, load, DEVICES):
            outcome.decisions.append((second, decision))
            change = decision.replicas - decision.before
            starting += [second + START_S] * change
            dropped = min(len(starting), max(0, -change))
            starting = starting[: len(starting) - dropped]
            ready -= max(0, -change) - dropped
        outcome.replica_s += ready + len(starting)
        outcome.ideal_s += min(spec.max_workers, max(spec.min_workers, math.ceil(rate / RATE)))
        outcome.late_s += waiting / (max(1, ready) * RATE) > spec.target_queue_ms / 1000
    outcome.left = waiting
    return outcome


def a_day(second: float) -> float:
    """Quiet at night, up to 250 requests/s at noon."""
    return 20 + 230 * max(0.0, math.sin(2 * math.pi * (second / DAY_S - 0.25)))


def sawtooth(period_s: float) -> Callable[[float], float]:
    return lambda second: 200 * (second % period_s) / period_s


def test_a_day_of_traffic_costs_little_more_than_the_ideal():
    outcome = simulate(a_day, DAY_S)
    assert outcome.ideal_s > 50 * HOUR_S
    assert outcome.replica_s / outcome.ideal_s < 1.2
    assert max(outcome.sizes) >= 5 and outcome.sizes[-1] == 1
    assert len(outcome.sizes) <= 20  # 12 at least: up by six and down again
    assert outcome.late_s == 0
    assert outcome.left == 0


@pytest.mark.parametrize("rate", [10, 40, 45, 95, 99, 100, 140, 250])
def test_a_steady_load_makes_it_settle(rate):
    outcome = simulate(lambda _: rate, HOUR_S)
    needed = math.ceil(rate / RATE)
    final = outcome.sizes[-1] if outcome.sizes else 1
    assert needed <= final <= needed + 2
    assert all(second < 600 for second, _ in outcome.decisions)
    assert outcome.left < RATE


@pytest.mark.parametrize("period_s", [30, 60, 300])
def test_a_sawtooth_faster_than_it_may_shrink_makes_it_stay(period_s):
    outcome = simulate(sawtooth(period_s), 4 * HOUR_S)
    later = [second for second, _ in outcome.decisions if second > HOUR_S]
    assert len(later) <= 15  # in three hours, with 36 to 360 teeth
    assert outcome.replica_s / outcome.ideal_s < 2.1  # it stays near the top, which is twice the mean


def test_a_slow_sawtooth_is_followed_once_a_tooth():
    outcome = simulate(sawtooth(1800), 4 * HOUR_S)
    shrinks = [d for _, d in outcome.decisions if d.replicas < d.before]
    assert 8 <= len(shrinks) <= 8 * 4
    assert outcome.replica_s / outcome.ideal_s < 1.3


def look(rule: Autoscaling, now: float, spec: ModelSpec = SPEC, devices: int = DEVICES, **load) -> int:
    rule.look(now, spec, Load(**{"waiting": 0, "is_idle": not load, **load}), devices)
    return rule.size


def known(now: float = 0.0, size: int = 1, rate: float = RATE) -> Autoscaling:
    """A rule that goes on from another one's decision."""
    return Autoscaling(now, size, Decision(size, rate=rate))


def test_a_backlog_gets_the_replicas_that_take_it_within_the_target():
    assert look(known(), 1.0, waiting=200) == 4
    assert look(known(), 1.0, replace(SPEC, target_queue_ms=2000), waiting=200) == 2
    assert look(known(), 1.0, waiting=50) == 1
    assert look(known(), 1.0, waiting=100_000) == SPEC.max_workers


def test_it_grows_no_further_than_there_are_devices():
    assert look(known(), 1.0, waiting=100_000, devices=3) == 3
    assert look(known(), 1.0, waiting=100_000, devices=0) == 1


def test_a_rate_that_is_not_known_yet_is_measured_first():
    rule = Autoscaling(0.0, 1)
    assert look(rule, 0.5, waiting=5000) == 1
    assert look(rule, 1.5, waiting=4950, served=50, busy_served=50, busy_s=1.0) == 1
    assert look(rule, 2.5, waiting=4900, served=50, busy_served=50, busy_s=1.0) == 12


def test_a_handler_that_has_not_answered_yet_is_known_to_be_slow():
    rule = Autoscaling(0.0, 1)
    assert look(rule, 1.0, waiting=20, busy_s=1.0) == 1
    assert look(rule, 3.0, waiting=20, busy_s=2.0) == 12


def test_it_shrinks_only_when_fewer_have_been_enough_for_the_delay():
    rule = known(size=6)
    assert look(rule, 1.0, waiting=200) == 6  # four would do
    assert look(rule, SPEC.scale_down_delay_s) == 6
    assert look(rule, SPEC.scale_down_delay_s + 0.5) == 4
    assert look(rule, SPEC.scale_down_delay_s + 2.0) == 1


def test_another_process_goes_on_where_the_last_one_ended_and_shrinks_no_earlier():
    rule = known(now=5000.0, size=4)
    assert look(rule, 5001.0) == 4
    assert look(rule, 5000.0 + SPEC.scale_down_delay_s + 1.0) == 1


def test_without_a_request_it_rests_and_the_first_request_wakes_it():
    rule = known(size=2)
    assert look(rule, 10.0, RESTING, waiting=1) == 2
    assert look(rule, 69.0, RESTING) == 2
    assert look(rule, 70.5, RESTING) == 0
    assert look(rule, 1000.0, RESTING) == 0
    assert look(rule, 1000.5, RESTING, waiting=1) == 1


def test_a_request_that_is_running_keeps_it_awake():
    rule = known()
    for now in range(0, 1000, 10):
        assert look(rule, now, RESTING, is_idle=False) == 1


def test_a_version_that_may_not_rest_keeps_its_smallest_size():
    assert look(known(size=1), 10_000.0) == 1


def test_a_decision_says_why_with_its_numbers():
    rule = known()
    decision = rule.look(1.0, SPEC, Load(200, False), DEVICES)
    assert decision is not None
    assert (decision.before, decision.replicas, decision.waiting) == (1, 4, 200)
    assert decision.reason == (
        "the waiting requests would wait longer than the target "
        "(200 waiting, 20.0 requests/s arrive, 50.0 requests/s for each replica)"
    )
