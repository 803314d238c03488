import pytest
from thread_replica import make_spec

from marq import keys
from marq.admission.seats import Seat
from marq.admission.tickets import TicketAdmission
from marq.queue.entries import EntryFields

LANE = b"marq:{echo}:normal:1.0"


class Tickets:
    """A model with job tickets: queues requests as a gateway does, and takes them as its replicas do."""

    def __init__(self, connection, registry):
        self.spec, self.connection = make_spec(use_job_ticket=True), connection
        registry.register(self.spec)
        self.admission = TicketAdmission(self.spec)

    def open(self, *consumers):
        for consumer in consumers:
            Seat(self.connection, self.spec, consumer).open()

    def add(self):
        """Whether the request was queued; else the reason."""
        fields = EntryFields(b"x")
        call = self.admission.call(LANE, fields, fields.flat())
        first, second, *rest = self.connection.pipeline([call])[0]
        return True if first else self.admission.refusal(fields, second, *rest).message

    def take(self, consumer):
        command = ("XREADGROUP", "GROUP", keys.GROUP, consumer, "COUNT", 1, "STREAMS", LANE, ">")
        [[_, [[entry, _]]]] = self.connection.execute(*command)
        return entry

    def answer(self, entry):
        self.connection.pipeline([("XDEL", LANE, entry), ("XACK", LANE, keys.GROUP, entry)])


@pytest.fixture
def tickets(connection, registry):
    return Tickets(connection, registry)


BUSY = (
    'Model "echo" version 1.0: none of its 2 ready replicas is idle, and useJobTicket lets no request wait.'
)


def test_so_many_requests_are_accepted_as_replicas_are_idle(tickets):
    tickets.open("p/0/1", "p/1/2")
    assert [tickets.add() for _ in range(3)] == [True, True, BUSY]
    first, second = tickets.take("p/0/1"), tickets.take("p/1/2")
    assert tickets.add() == BUSY
    tickets.answer(first)
    assert [tickets.add(), tickets.add()] == [True, BUSY]
    tickets.answer(second)
    assert [tickets.add(), tickets.add()] == [True, BUSY]


def test_a_replica_that_takes_two_requests_leaves_another_one_idle(tickets):
    tickets.open("p/0/1", "p/1/2")
    assert [tickets.add(), tickets.add()] == [True, True]
    tickets.take("p/0/1"), tickets.take("p/0/1")
    assert [tickets.add(), tickets.add()] == [True, BUSY]


def test_without_a_ready_replica_nothing_is_accepted(tickets, connection):
    assert "none of its 0 ready replicas is idle" in tickets.add()
    tickets.open("p/0/1")
    Seat(connection, tickets.spec, "p/0/1").leave()
    assert "none of its 0 ready replicas is idle" in tickets.add()
