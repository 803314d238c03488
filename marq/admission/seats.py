"""Seats: the places of replicas to which requests are assigned one by one, and what happens at their end.

The replicas of models with sequences or job tickets have one each.
"""

import hashlib
from typing import cast

from marq import keys
from marq.connections.blocking import Connection
from marq.connections.scripts import read
from marq.connections.urls import Command
from marq.queue.giving_up import Entry
from marq.registry.spec import ModelSpec

LEAVE = read("marq.admission", "sequence", "leave")
END = read("marq.admission", "sequence", "end_seat")
AT_ONCE = 100  # requests: their bodies may be large


def seat_of(consumer: str) -> str:
    """The name of a replica's seat."""
    return hashlib.sha256(consumer.encode()).hexdigest()[:12]


def lane_of(spec: ModelSpec, consumer: str) -> str:
    """The stream of the requests that are assigned to a replica."""
    return keys.seat_lane(spec.name, spec.version, seat_of(consumer))


def limits(spec: ModelSpec) -> tuple[int, int, int, int]:
    """The limits of sequences as the scripts take them.

    At least as many sequences may be open as all replicas run at a time.
    """
    most = max(spec.max_num_sequence, spec.batch_size * max(spec.max_workers, spec.min_workers), 1)
    return max(1, spec.max_sequence_job_queue_size), most, spec.sequence_max_idle_ms, spec.sequence_timeout_ms


class Seat:
    """The seat of the replica that is this process. Its methods raise redis.RedisError."""

    def __init__(self, connection: Connection, spec: ModelSpec, consumer: str) -> None:
        self._connection, self._spec, self._consumer = connection, spec, consumer
        self._key, self._name = keys.seats(spec.name, spec.version), seat_of(consumer)
        self._is_leaving = False

    def open(self) -> None:
        """Takes the seat; also after Redis was lost."""
        owners = keys.seat_owners(self._spec.name, self._spec.version)
        commands: list[Command] = [
            ("XGROUP", "CREATE", lane_of(self._spec, self._consumer), keys.GROUP, "0", "MKSTREAM"),
            ("HSET", owners, self._name, self._consumer),
        ]
        if not self._is_leaving:
            commands.append(("ZADD", self._key, "NX", 0, self._name))
        self._connection.pipeline(commands)

    def leave(self) -> int:
        """Takes no new sequences from now on; returns how many are still open."""
        self._is_leaving = True
        return cast(int, self._connection.run(LEAVE, [self._key], self._name, *limits(self._spec)))


def end(connection: Connection, spec: ModelSpec, consumer: str, by: str) -> list[Entry]:
    """The requests of a replica that has ended, some at a time; `by` is the consumer that holds them then.

    The caller answers them and calls again, until there are none: then nothing is left of the seat. Its
    sequences end at once. Raises redis.RedisError.
    """
    key = keys.seats(spec.name, spec.version)
    found = connection.run(END, [key], seat_of(consumer), keys.GROUP, by, AT_ONCE)
    return [(entry, fields) for entry, fields in found]
