import pytest
from thread_replica import make_spec  # noqa: F401 - makes sure that the shared modules are found

from marq.control.load_meter import LoadMeter
from marq.registry.reports import READY, PoolReport, ReplicaReport


def report(
    moment: float, *requests: int, node: str = "a", first_pid: int = 1, state: str = READY
) -> PoolReport:
    replicas = [
        ReplicaReport(slot, first_pid + slot, "cpu", state, 0.0, requests=count)
        for slot, count in enumerate(requests)
    ]
    return PoolReport(node, len(replicas), replicas=tuple(replicas), reported=moment)


@pytest.fixture
def meter():
    return LoadMeter()


def test_requests_count_between_two_reports_whenever_they_are_read(meter):
    meter.look(10.0, 100, False, [report(9.5, 40, 50)])
    again = meter.look(10.4, 80, False, [report(9.5, 40, 50)])
    assert (again.served, again.busy_s) == (0, 0.0)
    load = meter.look(10.9, 60, False, [report(10.5, 60, 80)])
    assert (load.waiting, load.served, load.busy_served, load.busy_s) == (60, 50, 50, 2.0)


def test_a_time_in_which_nothing_waited_says_nothing_about_the_rate(meter):
    meter.look(10.0, 5, False, [report(9.5, 0)])
    meter.look(10.2, 0, False, [report(9.5, 0)])
    load = meter.look(10.9, 5, False, [report(10.5, 30)])
    assert (load.served, load.busy_served, load.busy_s) == (30, 0, 0.0)
    meter.look(11.4, 5, False, [report(10.5, 30)])
    load = meter.look(11.9, 5, False, [report(11.5, 80)])
    assert (load.busy_served, load.busy_s) == (50, 1.0)


def test_a_new_replica_counts_from_zero_and_an_ended_one_no_more(meter):
    meter.look(10.0, 9, False, [report(9.0, 500)])
    load = meter.look(11.0, 9, False, [report(10.0, 7, first_pid=2)])
    assert load.served == 7


def test_replicas_that_load_take_no_time(meter):
    meter.look(10.0, 9, False, [report(9.0, 0, 0, state="loading")])
    assert meter.look(11.0, 9, False, [report(10.0, 0, 0)]).busy_s == 0.0
    assert meter.look(12.0, 9, False, [report(11.0, 0, 0)]).busy_s == 2.0


def test_nodes_count_together(meter):
    meter.look(10.0, 9, False, [report(9.0, 0), report(9.5, 10, node="b")])
    load = meter.look(11.0, 9, False, [report(10.0, 20), report(10.5, 40, node="b")])
    assert (load.served, load.busy_s) == (50, 2.0)
