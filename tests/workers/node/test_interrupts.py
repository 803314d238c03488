import signal

import pytest

from workers.node.interrupts import FORCE_AFTER_S, FORCED, INTERRUPTED, STOPPING, Interrupts


@pytest.fixture
def events(capfd):
    return []


@pytest.fixture
def signals(events):
    """Signals to a node at given times: signals((number, second), ...)."""

    def send(*given):
        now = 0.0
        handler = Interrupts(lambda: events.append("stop"), events.append, lambda: now)
        for number, now in given:  # noqa: B007 - the clock reads it
            handler(number, None)

    return send


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_ends_the_node_in_order(signals, events, first, capfd):
    signals((first, 1.0))
    assert events == ["stop"]
    assert capfd.readouterr().out == STOPPING.decode()


def test_a_second_ctrl_c_ends_it_at_once(signals, events, capfd):
    signals((signal.SIGINT, 1.0), (signal.SIGINT, 1.1 + FORCE_AFTER_S))
    assert events == ["stop", INTERRUPTED]
    assert capfd.readouterr().out == (STOPPING + FORCED).decode()


def test_one_that_comes_twice_and_other_signals_force_nothing(signals, events):
    signals((signal.SIGINT, 1.0), (signal.SIGINT, 1.1), (signal.SIGTERM, 9.0), (signal.SIGHUP, 10.0))
    assert events == ["stop"]
