"""Rows that were fetched ahead do not wait behind one that takes much longer than expected."""

import time

import pytest
import redis

from marq import keys
from workers.replica.batcher import Batcher

NORMAL, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)
USUAL_S = 0.02


@pytest.fixture
def batcher(plain, register) -> Batcher:
    """Of a handler that usually takes 20 ms for its one row."""
    made = Batcher(plain, register(batch_size=1), "pool/0/1")
    made.ran(USUAL_S)
    return made


def take(batcher: Batcher) -> list[bytes]:
    if not batcher.held:
        batcher.fetch([])
    return [request.body for request in batcher.take()]


def test_they_go_back_to_the_front_for_whoever_is_idle(batcher, add, client):
    # Given a row that is fetched while another one runs for long
    add(b"slow")
    assert take(batcher) == [b"slow"]
    add(b"waits", id="7", colour="red")
    batcher.run(lambda: time.sleep(0.5))
    # Then it is nobody's any more, first in the queue, and as it was
    assert batcher.held == 0
    assert client.xlen(NORMAL) == 1  # the slow one
    assert client.xpending(FRONT, keys.GROUP)["pending"] == 0
    [(_, fields)] = client.xrange(FRONT)
    assert fields == {b"id": b"7", b"colour": b"red", b"body": b"waits", b"attempts": b"0"}
    # And it is taken up again, if by nobody else
    batcher.check()
    assert take(batcher) == [b"waits"]


def test_a_usual_run_keeps_what_was_fetched(batcher, add, client):
    add(b"first")
    take(batcher)
    add(b"second")
    batcher.run(lambda: time.sleep(USUAL_S))
    assert batcher.prefetched
    assert client.xlen(FRONT) == 0
    assert take(batcher) == [b"second"]


def test_what_was_cancelled_since_it_was_fetched_is_not_run(plain, register, add, client):
    batcher = Batcher(plain, register(batch_size=2), "pool/0/1")
    kept, cancelled = add(b"kept", b"cancelled")
    batcher.fetch([])
    assert batcher.held == 2
    client.xack(NORMAL, keys.GROUP, cancelled)
    client.xdel(NORMAL, cancelled)
    time.sleep(0.06)
    assert [request.entry for request in batcher.take()] == [kept]


def test_a_failure_to_give_back_is_told_after_the_run(batcher, add, client):
    # Given a connection that breaks while a row runs for long and another one is held
    add(b"slow")
    take(batcher)
    add(b"waits")

    def run() -> str:
        time.sleep(0.05)
        client.client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.4)
        return "done"

    assert batcher.run(run) == "done"
    # Then the replica hears of it, and connects anew
    with pytest.raises(redis.ConnectionError):
        batcher.check()


def test_lanes_keep_their_order_when_the_handler_is_slow(plain, register, add, client):
    # Given a handler that takes half a second, and rows in all lanes
    batcher = Batcher(plain, register(batch_size=2), "pool/0/1")
    batcher.ran(0.5)
    for lane in (keys.LOW, keys.NORMAL, keys.HIGH):
        add(*(f"{lane} {number}".encode() for number in range(4)), lane=lane)
    # When batches are run
    batches = []
    for _ in range(6):
        batches.append(take(batcher))
        batcher.run(lambda: None)
    # Then each is of one lane, the urgent ones first, and none was fetched only to be given back
    assert [batch[0].split()[0] for batch in batches] == [b"high"] * 2 + [b"normal"] * 2 + [b"low"] * 2
    assert all(len({row.split()[0] for row in batch}) == 1 for batch in batches)
    assert client.xlen(FRONT) == 0


def test_a_steady_slow_handler_gives_nothing_back(plain, register, add, client):
    batcher = Batcher(plain, register(batch_size=1), "pool/0/1")
    batcher.ran(0.2)
    add(*(b"%d" % number for number in range(6)))
    rows = []
    for _ in range(6):
        rows += take(batcher)
        batcher.run(lambda: time.sleep(0.2))
        batcher.check()
    assert rows == [b"%d" % number for number in range(6)]
    assert not client.exists(FRONT) or client.xinfo_stream(FRONT)["entries-added"] == 0
