"""A replica process of a model with sequences, and what its pool does when it has ended."""

import pytest
from support import wait_for

from marq import keys
from marq.admission import seats


@pytest.fixture
def spec(register):
    return register(
        sequence_batching=True, sequence_max_idle_ms=60_000, max_num_sequence=10, batch_size=4,
        max_sequence_job_queue_size=10, max_batch_delay_ms=0,
    )  # fmt: skip


@pytest.fixture
def replica(start, spec):
    return start(spec)


def test_after_a_lost_connection_the_requests_of_its_sequences_run_in_order(
    replica, gateway, client, release
):
    gateway.send(b"hold GO", sequence="a")
    replica.wait_until_running()
    gateway.send(b"1", b"2", b"3", sequence="a")
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    release("GO")
    replies = [reply.body for reply in gateway.wait(4)]
    assert replies == [b"hold GO", b"1", b"2", b"3"]


def test_what_its_sequences_had_queued_is_answered_when_it_is_lost(replica, gateway, client, spec):
    gateway.send(b"hold NEVER", sequence="a")
    replica.wait_until_running()
    gateway.send(b"1", sequence="a")
    gateway.send(b"2", sequence="b", job="1", id="j")
    # The requests get to the seat when the replica reads again; another one of the same seat cannot be lost
    replica.process.kill()
    replica.wait_for_exit()
    replica.put_back()
    died = gateway.wait(1)[0]
    assert (died.status, b"Worker died." in died.body) == (500, True)
    assert not client.exists(seats.lane_of(spec, replica.process.consumer))
    assert client.zcard(keys.seats("m", "1.0")) == 0
    # Those that no replica had been given are still queued
    assert client.xlen(keys.lane("m", "1.0")) == 2


def test_its_name_and_seat_are_gone_when_it_has_ended_by_itself(replica, client, spec):
    wait_for(lambda: client.zcard(keys.seats("m", "1.0")) == 1)
    replica.process.drain()
    assert replica.wait_for_exit() == 0
    replica.put_back()
    assert client.keys("marq:{m}:seat*") == []
