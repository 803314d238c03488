"""Seats of replicas, without the replicas."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from thread_replica import make_spec

from marq import keys
from marq.admission.seats import Seat
from marq.admission.sequences import SequenceAdmission
from marq.connections.blocking import Connection
from marq.queue.entries import EntryFields, EntryHead
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec
from workers.replica.seat_reader import SeatReader


@pytest.fixture
def connection(redis_url: str) -> Iterator[Connection]:
    connection = Connection(redis_url)
    yield connection
    connection.close()


class Sequences:
    """A model with sequences: queues their requests as a gateway does, and reads them as its replicas do."""

    def __init__(self, connection: Connection, registry: Registry, **settings: Any) -> None:
        limits = {"max_num_sequence": 100, "max_sequence_job_queue_size": 10, "sequence_max_idle_ms": 60_000}
        self.spec: ModelSpec = make_spec(sequence_batching=True, **{**limits, **settings})
        registry.register(self.spec)
        self.connection = connection
        self.admission = SequenceAdmission(self.spec)
        self.seats: dict[str, Seat] = {}
        self.lane = keys.lane(self.spec.name, self.spec.version).encode()

    def open(self, *consumers: str) -> None:
        """Replicas are ready."""
        for consumer in consumers:
            self.seats[consumer] = Seat(self.connection, self.spec, consumer)
            self.seats[consumer].open()

    def add(self, sequence: str, body: bytes = b"", ends: bool = False) -> str:
        """Queues a request; returns its lane, or the reason why it was refused."""
        head = EntryHead(sequence=sequence.encode(), sequence_end=b"1" if ends else b"")
        fields = EntryFields(body, head)
        call = self.admission.call(self.lane, fields, [b"id", body, *fields.flat()])
        first, second, *rest = self.connection.pipeline([call])[0]
        return first.decode() if first else self.admission.refusal(fields, second, *rest).message

    def reader(self, consumer: str) -> SeatReader:
        import time

        return SeatReader(self.connection, self.spec, consumer, time, lambda _: None, 1000)


@pytest.fixture
def make_sequences(connection: Connection, registry: Registry) -> Callable[..., Sequences]:
    return lambda **settings: Sequences(connection, registry, **settings)


@pytest.fixture
def sequences(make_sequences: Callable[..., Sequences]) -> Sequences:
    return make_sequences()
