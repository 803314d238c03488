"""Fetching the next batch while a slow handler works."""

import threading
import time

import pytest
import redis

from workers.replica.batcher import Batcher
from workers.replica.prefetcher import Prefetcher

SLOW_S = 0.3


@pytest.fixture
def make_batcher(plain, register):
    def make(**settings) -> Batcher:
        return Batcher(plain, register(**settings), "pool/0/1")

    return make


def slow() -> str:
    time.sleep(SLOW_S)
    return "done"


def test_the_next_batch_is_there_when_a_slow_handler_ends(make_batcher, add):
    # Given a handler known to be slow, and rows that come while it works
    batcher = make_batcher(batch_size=4)
    batcher.ran(SLOW_S)
    timer = threading.Timer(SLOW_S / 5, add, (b"1", b"2", b"3", b"4", b"5"))
    timer.start()
    # When it has been run
    assert batcher.run(slow) == "done"
    timer.join()
    # Then a batch of them is held, without another look
    assert batcher.prefetched
    assert [request.body for request in batcher.take()] == [b"1", b"2", b"3", b"4"]


def test_nothing_is_fetched_for_a_fast_handler(make_batcher, add):
    batcher = make_batcher(batch_size=4)
    batcher.ran(0.0001)
    add(b"1")
    batcher.run(slow)
    assert (batcher.prefetched, batcher.held) == (False, 0)


def test_a_handler_that_ends_early_is_not_waited_for(make_batcher, add):
    batcher = make_batcher(batch_size=4)
    batcher.ran(30.0)
    add(b"1")
    began = time.monotonic()
    batcher.run(lambda: None)
    assert time.monotonic() - began < 1
    assert batcher.held == 0


def test_a_failure_meanwhile_does_not_cost_the_result(make_batcher, client):
    # Given a connection that breaks while the handler works
    batcher = make_batcher(batch_size=4)
    batcher.ran(SLOW_S)

    def breaking() -> str:
        client.client_kill_filter(_type="normal", skipme=True)
        return slow()

    # When the handler has been run
    assert batcher.run(breaking) == "done"
    # Then the failure is told afterwards, once
    with pytest.raises(redis.ConnectionError):
        batcher.check()
    batcher.check()


def test_what_is_called_off_is_not_done():
    done = threading.Event()
    prefetcher = Prefetcher(done.set)
    prefetcher.schedule(0.05)
    assert prefetcher.settle() is None
    assert not done.wait(0.1)
    # And it can be used again
    prefetcher.schedule(0.0)
    assert done.wait(1)
