"""Rows that were fetched ahead do not wait behind a row that takes much longer than expected."""

import threading

import pytest
import redis
from clock import FakeClock
from support import wait_for

from marq import keys
from workers.replica.batcher import Batcher
from workers.replica.slow_handler import HELD_S, HELD_SHARE, SlowHandlerWatch

NORMAL, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)
USUAL_S = 0.02


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


@pytest.fixture
def batcher(make_batcher) -> Batcher:
    """Of a handler that usually takes 20 ms for its one row."""
    return make_batcher(USUAL_S, batch_size=1)


def take(batcher: Batcher) -> list[bytes]:
    if not batcher.held:
        batcher.fetch([])
    return [request.body for request in batcher.take()]


# the rule


@pytest.fixture
def given_back():
    return threading.Event()


@pytest.fixture
def watch(given_back, clock) -> SlowHandlerWatch:
    return SlowHandlerWatch(given_back.set, clock)


@pytest.mark.parametrize(("usual_s", "limit_s"), [(USUAL_S, HELD_S), (60.0, 60.0 * HELD_SHARE)])
def test_rows_are_given_back_when_they_have_waited_for_too_long(watch, given_back, clock, usual_s, limit_s):
    watch.begin(usual_s, has_rows=True)
    clock.now += limit_s * 0.99
    watch.look()
    assert not given_back.is_set()
    clock.now += limit_s * 0.02
    assert given_back.wait(20)
    watch.end()


def test_the_time_of_rows_that_are_fetched_during_a_run_counts_from_then(watch, given_back, clock):
    watch.begin(USUAL_S, has_rows=False)
    clock.now += 10 * HELD_S
    watch.fetch(lambda: None)
    clock.now += HELD_S * 0.99
    watch.look()
    assert not given_back.is_set()
    clock.now += HELD_S
    assert given_back.wait(20)
    watch.end()


def test_without_rows_a_late_handler_changes_nothing(watch, given_back, clock):
    watch.begin(USUAL_S, has_rows=False)
    clock.now += 3600
    watch.look()
    watch.end()
    assert not given_back.is_set()


def test_nothing_is_given_back_between_two_runs(watch, given_back, clock):
    watch.begin(USUAL_S, has_rows=True)
    watch.end()
    clock.now += 3600
    # The watch waits for the next run, which is not late
    looking = threading.Thread(target=watch.look)
    looking.start()
    watch.begin(USUAL_S, has_rows=True)
    looking.join()
    watch.end()
    assert not given_back.is_set()


# with a queue


def test_rows_go_back_to_the_front_for_idle_replicas(batcher, add, client, clock):
    # Given a row that is fetched while another one runs for long
    add(b"slow")
    assert take(batcher) == [b"slow"]
    add(b"waits", id="7", colour="red")

    def run() -> None:
        clock.now += USUAL_S * 0.95
        wait_for(lambda: batcher.held, what="the next row")
        clock.now += 0.5
        wait_for(lambda: not batcher.held, what="its return")

    batcher.run_handler(run)
    # Then it belongs to no replica, is first in the queue, and unchanged
    assert batcher.held == 0
    assert client.xlen(NORMAL) == 1  # the slow one
    assert client.xpending(FRONT, keys.GROUP)["pending"] == 0
    [(_, fields)] = client.xrange(FRONT)
    assert fields == {b"id": b"7", b"colour": b"red", b"body": b"waits", b"attempts": b"0"}
    # And it is taken up again, if by no other replica
    batcher.raise_failure()
    assert take(batcher) == [b"waits"]


def test_a_usual_run_keeps_the_fetched_rows(batcher, add, client, clock):
    add(b"first")
    take(batcher)
    add(b"second")

    def run() -> None:
        clock.now += USUAL_S * 0.95
        wait_for(lambda: batcher.held, what="the next row")
        clock.now += USUAL_S * 0.05

    batcher.run_handler(run)
    assert batcher.prefetched
    assert client.xlen(FRONT) == 0
    assert take(batcher) == [b"second"]


def test_a_row_that_was_cancelled_since_it_was_fetched_is_not_run(make_batcher, add, client, clock):
    batcher = make_batcher(USUAL_S, batch_size=2)
    kept, cancelled = add(b"kept", b"cancelled")
    batcher.fetch([])
    assert batcher.held == 2
    client.xack(NORMAL, keys.GROUP, cancelled)
    client.xdel(NORMAL, cancelled)
    clock.now += 0.06
    assert [request.entry for request in batcher.take()] == [kept]


def test_a_failure_to_give_back_is_raised_after_the_run(batcher, add, client, clock):
    # Given a connection that breaks while a row runs for long and another one is held
    add(b"slow")
    take(batcher)
    add(b"waits")

    def run() -> str:
        clock.now += USUAL_S * 0.95
        wait_for(lambda: batcher.held, what="the next row")
        client.client_kill_filter(_type="normal", skipme=True)
        clock.now += 0.5
        wait_for(lambda: not batcher.held, what="its return")
        return "done"

    assert batcher.run_handler(run) == "done"
    # Then the replica gets the error, and connects anew
    with pytest.raises(redis.ConnectionError):
        batcher.raise_failure()


def test_lanes_keep_their_order_when_the_handler_is_slow(make_batcher, add, client, clock):
    # Given a handler that takes half a second, and rows in all lanes
    batcher = make_batcher(0.5, batch_size=2)
    for lane in (keys.LOW, keys.NORMAL, keys.HIGH):
        add(*(f"{lane} {number}".encode() for number in range(4)), lane=lane)
    # When batches are run
    batches = []
    for _ in range(6):
        batches.append(take(batcher))
        batcher.run_handler(lambda: clock.sleep(0.4))
    # Then each is of one lane, the urgent ones first, and none was fetched only to be given back
    assert [batch[0].split()[0] for batch in batches] == [b"high"] * 2 + [b"normal"] * 2 + [b"low"] * 2
    assert all(len({row.split()[0] for row in batch}) == 1 for batch in batches)
    assert client.xlen(FRONT) == 0


def test_rows_of_the_low_lane_only_fill_the_batches_of_others(make_batcher, add):
    # Given a handler of 20 ms, some usual rows, and many low ones
    batcher = make_batcher(USUAL_S, batch_size=8)
    add(*(b"usual %d" % number for number in range(5)))
    add(*(b"low %d" % number for number in range(50)), lane=keys.LOW)
    # When a batch is formed
    batch = take(batcher)
    # Then low rows fill it, and no more of them are held, for which later usual rows would wait
    assert [row.split()[0] for row in batch] == [b"usual"] * 5 + [b"low"] * 3
    assert batcher.held == 0


def test_a_steady_slow_handler_gives_no_rows_back(make_batcher, add, client, clock):
    batcher = make_batcher(0.2, batch_size=1)
    add(*(b"%d" % number for number in range(6)))
    rows = []
    for number in range(6):
        rows += take(batcher)

        def run(more: bool = number < 5) -> None:
            clock.now += 0.199
            if more:
                wait_for(lambda: batcher.held, what="the next row")
            clock.now += 0.001

        batcher.run_handler(run)
        batcher.raise_failure()
    assert rows == [b"%d" % number for number in range(6)]
    assert not client.exists(FRONT) or client.xinfo_stream(FRONT)["entries-added"] == 0
