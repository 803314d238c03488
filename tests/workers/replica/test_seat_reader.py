import time

import pytest

from marq import keys
from marq.admission import seats
from marq.admission.seats import Seat
from marq.queue.entries import EntryRef
from workers.replica.batcher import Batcher
from workers.replica.seat_reader import SeatReader

CONSUMER = "p/0/1"


@pytest.fixture
def spec(register):
    return register(
        sequence_batching=True, sequence_max_idle_ms=60_000, max_num_sequence=10, batch_size=3,
        max_sequence_job_queue_size=100, max_batch_delay_ms=0,
    )  # fmt: skip


@pytest.fixture
def reader(plain, spec):
    Seat(plain, spec, CONSUMER).open()
    return SeatReader(plain, spec, CONSUMER, time, lambda _: None, 1000)


@pytest.fixture
def take(plain, spec, reader):
    """The sequences and bodies of the next batch."""
    batcher = Batcher(plain, spec, CONSUMER, reader=reader)

    def take():
        if not batcher.held:
            batcher.fetch([])
        return [(row.sequence.decode(), row.body.decode()) for row in batcher.take()]

    return take


def test_a_batch_has_one_request_of_a_sequence_and_the_next_one_the_next(take, add):
    for body in ("a1", "a2", "b1", "a3", "c1", "d1"):
        add(body, sequence=body[0])
    assert [take() for _ in range(3)] == [
        [("a", "a1"), ("b", "b1"), ("c", "c1")],
        [("d", "d1"), ("a", "a2")],
        [("a", "a3")],
    ]


def test_a_body_beside_the_lane_is_read_with_its_row(take, client):
    client.set("marq:{m}:body:7", "the body")
    client.xadd(keys.lane("m", "1.0"), {"id": "7", "sequence": "a", "body_ref": "body:7"})
    assert take() == [("a", "the body")]


def test_a_cancelled_request_does_not_run(take, add, client, spec):
    add("1", "2", "3", sequence="a")
    assert take() == [("a", "1")]
    lane = seats.lane_of(spec, CONSUMER)
    second = client.xrange(lane)[1][0]
    client.xack(lane, keys.GROUP, second)
    client.xdel(lane, second)
    assert [take(), take()] == [[], [("a", "3")]]


def test_a_new_connection_takes_up_what_was_delivered_and_does_not_run(reader, add, client, spec):
    add("1", "2", sequence="a")
    reader.read(1, block_ms=1000)
    [row] = reader.take(1, 1)
    reader.read(1)
    reader.forget()
    reader.adopt([EntryRef(seats.lane_of(spec, CONSUMER).encode(), row.entry)])
    assert [row.body for row in reader.take(9, 1)] == [b"2"]


def test_an_entry_that_is_malformed_is_answered_and_the_others_run(reader, add, client):
    client.xadd(keys.lane("m", "1.0"), {"sequence": "a", "reply": "answers"})
    add("1", sequence="a")
    reader.read(10, block_ms=1000)
    assert [row.body for row in reader.take(9, 1)] == [b"1"]
    assert client.xrange("answers")[0][1][b"status"] == b"400"
