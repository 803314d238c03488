import time

import pytest
import redis
from clock import FakeClock

from marq import keys
from marq.queue import scripts
from workers.replica import batcher as batcher_module
from workers.replica.batcher import Batcher

NORMAL = keys.lane("m", "1.0")
SET = ("SET", "sent", "1")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(batcher_module, "IDLE_BLOCK_MS", 20)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_batcher(plain, register, clock):
    def make(**settings) -> Batcher:
        return Batcher(plain, register(**settings), "pool/0/1", clock=clock)

    return make


def bodies(batch) -> list[bytes]:
    return [request.body for request in batch]


def next_batch(batcher, *outgoing):
    """One batch, as a replica takes it."""
    if batcher.held:
        batcher.refresh(list(outgoing))
    else:
        batcher.fetch(list(outgoing))
    return batcher.take()


def numbered(count: int, prefix: bytes = b"") -> list[bytes]:
    return [prefix + b"%d" % number for number in range(count)]


def test_a_batch_has_at_most_batch_size_rows_in_their_order(make_batcher, add):
    batcher = make_batcher(batch_size=4, max_batch_delay_ms=0)
    add(*numbered(10))
    batches = [bodies(next_batch(batcher)) for _ in range(3)]
    assert batches == [numbered(10)[0:4], numbered(10)[4:8], numbered(10)[8:10]]
    assert batcher.held == 0


def test_without_requests_a_batch_is_empty_after_a_while(make_batcher):
    began = time.monotonic()
    assert next_batch(make_batcher()) == []
    assert time.monotonic() - began >= 0.02


def test_what_is_to_be_sent_is_sent_before_the_wait(make_batcher, client):
    next_batch(make_batcher(), SET)
    assert client.get("sent") == b"1"


def test_a_request_knows_where_it_came_from(make_batcher, add):
    batcher = make_batcher()
    [entry] = add(b"x", lane=keys.LOW, id="7")
    [request] = next_batch(batcher)
    assert (request.entry, request.lane, request.id) == (entry, keys.lane("m", "1.0", keys.LOW), b"7")


# waiting for more rows


def test_lone_rows_do_not_wait_for_others_that_never_come(make_batcher, add, clock):
    # Given a slow handler and a long delay
    batcher = make_batcher(batch_size=8, max_batch_delay_ms=5000)
    began = clock.now
    for number in range(12):
        add(b"%d" % number)
        assert len(next_batch(batcher)) == 1
        batcher.record_handler_time(5.0)
    # Then each row of a client that sends one at a time runs at once
    assert clock.now == began


def test_rows_wait_for_as_many_as_came_together_lately(make_batcher, add, clock):
    # Given rows that came together while the handler was busy
    batcher = make_batcher(batch_size=8, max_batch_delay_ms=500_000)
    add(*numbered(3))
    assert len(next_batch(batcher)) == 3
    batcher.record_handler_time(100.0)
    # When the first row of the next batch is here and the others follow
    add(b"a")
    began = clock.now
    clock.after(30.0, lambda: add(b"b", b"c"))
    # Then they make one batch, which leaves when as many are here as before
    assert bodies(next_batch(batcher)) == [b"a", b"b", b"c"]
    assert clock.now - began == pytest.approx(30.0)


def test_waiting_never_takes_longer_than_the_handler(make_batcher, add, clock):
    batcher = make_batcher(batch_size=8, max_batch_delay_ms=500_000)
    add(*numbered(3))
    next_batch(batcher)
    batcher.record_handler_time(50.0)
    add(b"alone")
    began = clock.now
    assert bodies(next_batch(batcher)) == [b"alone"]
    assert clock.now - began == pytest.approx(50.0)


def test_the_delay_counts_from_the_arrival_of_the_oldest_row(make_batcher, client, clock):
    # Given a row that came 300 s ago, by the Redis server's clock
    batcher = make_batcher(batch_size=8, max_batch_delay_ms=500_000, batching="fixed")
    client.xadd(NORMAL, {"body": b"old"}, id=f"{(client.time()[0] - 300) * 1000}-0")
    # Then it waits for the rest of the delay (the clock of the test stood still in the meantime)
    began = clock.now
    assert bodies(next_batch(batcher)) == [b"old"]
    assert 190 < clock.now - began <= 260


def test_fixed_batching_waits_for_the_whole_delay(make_batcher, add, clock):
    batcher = make_batcher(batch_size=8, max_batch_delay_ms=500_000, batching="fixed")
    add(b"a")
    began = clock.now
    clock.after(200.0, lambda: add(b"b"))
    assert bodies(next_batch(batcher)) == [b"a", b"b"]
    assert clock.now - began >= 499.0


@pytest.mark.parametrize("rows", [1, 2])
def test_fixed_batching_does_not_wait_when_a_batch_is_full(make_batcher, add, clock, rows):
    batcher = make_batcher(batch_size=rows, max_batch_delay_ms=500_000, batching="fixed")
    add(*numbered(rows))
    began = clock.now
    assert bodies(next_batch(batcher)) == numbered(rows)
    assert clock.now == began


# lanes


def test_the_high_lane_comes_first_and_what_was_put_back_before_it(make_batcher, add):
    batcher = make_batcher(batch_size=2, max_batch_delay_ms=0)
    for lane in (keys.LOW, keys.NORMAL, keys.HIGH, keys.FRONT):
        add(*numbered(2, lane.encode()), lane=lane)
    batches = [next_batch(batcher) for _ in range(4)]
    assert [batch[0].lane for batch in batches] == list(keys.lanes("m", "1.0"))


def test_high_rows_overtake_what_is_held_of_other_lanes(make_batcher, add):
    # Given a replica that has fetched rows of all lanes and run the high ones
    batcher = make_batcher(batch_size=2, max_batch_delay_ms=0)
    for lane in keys.LANES:
        add(*numbered(2), lane=lane)
    next_batch(batcher)
    assert batcher.held == 4
    # When another high row comes
    add(b"urgent", lane=keys.HIGH)
    # Then it is in the next batch
    assert bodies(next_batch(batcher)) == [b"urgent", b"0"]


def test_no_lane_starves_and_the_high_one_gets_the_most(make_batcher, add):
    # Given lanes that never run empty
    batcher = make_batcher(batch_size=2, max_batch_delay_ms=0)
    for lane in keys.LANES:
        add(*numbered(200), lane=lane)
    # When many batches are formed
    rows = [request.lane for _ in range(80) for request in next_batch(batcher)]
    # Then every lane has had its share
    shares = {name: rows.count(keys.lane("m", "1.0", name)) / len(rows) for name in keys.LANES}
    assert shares[keys.HIGH] > 0.8
    assert min(shares.values()) > 0.05


def test_a_lane_that_gets_the_rest_of_batches_does_not_come_first(make_batcher, add):
    # Given low rows without end, and now and then one of the usual lane
    batcher = make_batcher(batch_size=2, max_batch_delay_ms=0)
    add(b"first")
    next_batch(batcher)  # so that each second batch is fetched when it is the turn of the low lane
    add(*numbered(200), lane=keys.LOW)
    for _ in range(60):
        add(b"usual")
        # Then it comes at once, or after the low rows that had been fetched before it
        batches = [bodies(next_batch(batcher))]
        if b"usual" not in batches[0]:
            batches.append(bodies(next_batch(batcher)))
        assert b"usual" in batches[-1], batches


# rows that a lost replica was running


def test_suspects_come_alone_and_the_others_after_them(make_batcher, add):
    # Given rows that came back from a lost replica, two of which it was running
    batcher = make_batcher(batch_size=8, max_batch_delay_ms=0)
    add(b"held", lane=keys.FRONT, attempts=0)
    add(b"suspect 1", b"suspect 2", lane=keys.FRONT, attempts=1)
    add(b"new")
    # Then those two come one by one, and then the others together
    assert bodies(next_batch(batcher)) == [b"suspect 1"]
    assert bodies(next_batch(batcher)) == [b"suspect 2"]
    assert bodies(next_batch(batcher)) == [b"held", b"new"]


def test_results_that_are_sent_while_rows_are_held_arrive_where_redis_forgot_its_scripts(
    make_batcher, add, client
):
    # Given a batcher that holds a row
    batcher = make_batcher(batch_size=8)
    for lane in (keys.FRONT, keys.NORMAL):
        add(b"x", lane=lane, attempts=1)
    assert len(next_batch(batcher)) == 1
    assert batcher.held == 1
    # When Redis has forgotten its scripts, one of which is called while the row is held
    client.script_flush()
    record = keys.job("m", "1")
    job = scripts.SUBMIT.call([NORMAL], 1, "1.0", "", 0, "1", "body", "x")
    # Then it is loaded, and runs
    assert len(next_batch(batcher, SET, job)) == 1
    assert client.get("sent") == b"1"
    assert client.hget(record, "state") == b"queued"


def test_a_batcher_without_its_group_says_so(make_batcher, client):
    batcher = make_batcher()
    client.delete(*keys.lanes("m", "1.0"))
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        next_batch(batcher)


# what is no request


def test_what_is_no_request_goes_to_the_dead_letters_and_stops_nothing(make_batcher, add, client, caplog):
    # Given entries of which only some are requests
    batcher = make_batcher(batch_size=8, max_batch_delay_ms=0)
    add(b"before")
    malformed = client.xadd(NORMAL, {"data": "x", "colour": "red"})
    add(b"late", deadline="tomorrow")
    add(b"after")
    # When a batch is formed
    batch = next_batch(batcher)
    # Then it has the requests
    assert bodies(batch) == [b"before", b"after"]
    # And the others are dead letters that say why and carry all that came
    letters = [fields for _, fields in client.xrange(keys.dead_letters("m"))]
    assert letters[0] == {
        b"reason": b"the field `body` is missing", b"version": b"1.0", b"lane": NORMAL.encode(),
        b"entry": malformed, b"attempts": b"0", b"device": b"", b"ending": b"", b"log": b"",
        b"data": b"x", b"colour": b"red",
    }  # fmt: skip
    assert letters[1][b"reason"].startswith(b"the field `deadline` must be a whole number")
    assert letters[1][b"body"] == b"late"
    # And they are gone from the lane
    assert client.xlen(NORMAL) == client.xpending(NORMAL, keys.GROUP)["pending"] == 2
    assert malformed.decode() in caplog.text


def test_whoever_waits_for_what_is_no_request_is_answered_with_400(make_batcher, client):
    batcher = make_batcher()
    client.xadd(NORMAL, {"id": "7", "data": "x", "reply": "my-answers"})
    assert next_batch(batcher) == []
    [(_, reply)] = client.xrange("my-answers")
    assert (reply[b"id"], reply[b"status"]) == (b"7", b"400")
    assert b"the field `body` is missing" in reply[b"body"]


def test_a_batch_of_nothing_but_malformed_entries_is_empty(make_batcher, client):
    batcher = make_batcher(batch_size=2)
    for _ in range(2):
        client.xadd(NORMAL, {"data": "x"})
    assert next_batch(batcher) == []
    assert client.xlen(NORMAL) == 0


def test_an_id_that_is_no_text_is_a_dead_letter(make_batcher, client):
    batcher = make_batcher()
    client.xadd(NORMAL, {"id": b"\xff", "body": "x"})
    assert next_batch(batcher) == []
    [(_, letter)] = client.xrange(keys.dead_letters("m"))
    assert letter[b"id"] == b"\xff"


def test_rows_that_are_held_are_not_added_to(make_batcher, add):
    # Given a lane that never runs empty
    batcher = make_batcher(batch_size=2, max_batch_delay_ms=0)
    add(*numbered(100), lane=keys.HIGH)
    add(*numbered(100))
    # Then a replica takes no more than it needs, and leaves the rest to its siblings
    held = []
    for _ in range(30):
        next_batch(batcher)
        held.append(batcher.held)
    assert max(held) <= 4


# a new connection


def test_rows_whose_delivery_was_lost_are_taken_up(make_batcher, add, client):
    # Given rows that were delivered to a replica: two are running, one is held, and two never arrived
    batcher = make_batcher(batch_size=2, max_batch_delay_ms=0)
    add(b"running 1", b"running 2", b"held")
    running = [row.ref for row in next_batch(batcher)]
    batcher.fetch([])
    assert batcher.held == 1
    add(b"lost 1")
    add(b"lost 2", lane=keys.HIGH)
    client.xreadgroup(keys.GROUP, "pool/0/1", {NORMAL: ">", keys.lane("m", "1.0", keys.HIGH): ">"})
    # When the replica has connected anew
    batcher.adopt(running)
    # Then it runs each of the others once
    assert batcher.held == 3
    assert bodies(batcher.take()) + bodies(batcher.take()) == [b"lost 2", b"held", b"lost 1"]


def test_after_a_reset_nothing_is_held(make_batcher, add):
    batcher = make_batcher(batch_size=1)
    add(b"a", lane=keys.HIGH)
    add(b"b")
    next_batch(batcher)
    assert batcher.held == 1
    batcher.reset()
    assert (batcher.held, batcher.take()) == (0, [])
