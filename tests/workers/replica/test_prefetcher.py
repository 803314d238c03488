"""Fetching the next batch while a slow handler works."""

import threading

import pytest
import redis
from clock import FakeClock
from support import wait_for

from workers.replica.batcher import Batcher
from workers.replica.prefetcher import Prefetcher

SLOW_S = 0.1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_batcher(plain, register, clock):
    """make_batcher(handler_s, batch_size=1): of a handler that usually takes so long."""

    def make(handler_s: float, **settings) -> Batcher:
        made = Batcher(plain, register(**settings), "pool/0/1", clock=clock)
        made.record_handler_time(handler_s)
        return made

    return make


def test_the_next_batch_is_there_when_a_slow_handler_ends(make_batcher, add, clock):
    # Given a handler known to be slow, and rows that come while it works
    batcher = make_batcher(SLOW_S, batch_size=4)

    def slow() -> str:
        add(b"1", b"2", b"3", b"4", b"5")
        clock.now += SLOW_S * 0.99
        wait_for(lambda: batcher.held, what="the next batch")
        return "done"

    # When it has been run
    assert batcher.run_handler(slow) == "done"
    # Then a batch of them is held, without another look
    assert batcher.prefetched
    assert [request.body for request in batcher.take()] == [b"1", b"2", b"3", b"4"]


def test_the_fetch_comes_late_so_that_idle_replicas_have_the_first_look(make_batcher, add, clock):
    batcher = make_batcher(SLOW_S, batch_size=4)

    def half() -> None:
        add(b"1")
        clock.now += SLOW_S * 0.5
        assert not threading.Event().wait(SLOW_S * 1.5)

    batcher.run_handler(half)
    assert (batcher.prefetched, batcher.held) == (False, 0)


def test_no_rows_are_fetched_for_a_fast_handler(make_batcher, add, clock):
    batcher = make_batcher(0.0001, batch_size=4)
    add(b"1")
    batcher.run_handler(lambda: (clock.sleep(3600), threading.Event().wait(0.1)))
    assert (batcher.prefetched, batcher.held) == (False, 0)


def test_a_handler_that_ends_early_is_not_waited_for(make_batcher, add):
    batcher = make_batcher(3600.0, batch_size=4)
    add(b"1")
    batcher.run_handler(lambda: None)  # returns within the time limit of a test
    assert batcher.held == 0


def test_a_failure_meanwhile_does_not_cost_the_result(make_batcher, client, clock):
    # Given a connection that breaks while the handler works
    batcher = make_batcher(SLOW_S, batch_size=4)
    tried = threading.Event()
    read_ahead = batcher._read_ahead

    def reading() -> None:
        tried.set()
        read_ahead()

    batcher._read_ahead = reading

    def breaking() -> str:
        client.client_kill_filter(_type="normal", skipme=True)
        clock.now += SLOW_S
        assert tried.wait(20)
        return "done"

    # When the handler has been run
    assert batcher.run_handler(breaking) == "done"
    # Then the failure is raised afterwards, once
    with pytest.raises(redis.ConnectionError):
        batcher.raise_failure()
    batcher.raise_failure()


def test_a_cancelled_fetch_does_not_come(clock):
    done = threading.Event()
    prefetcher = Prefetcher(done.set, clock)
    prefetcher.schedule(0.05)
    assert prefetcher.settle() is None
    clock.now += 1.0
    assert not done.wait(0.1)
    # And the next one does
    prefetcher.schedule(0.0)
    assert done.wait(20)
