"""Reads the requests of the sequences that this replica has, and holds them until batches take them."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from marq import keys
from marq.admission import seats, sequences
from marq.connections.blocking import Connection, checked
from marq.connections.commands import Reply
from marq.connections.urls import Command
from marq.errors import MalformedEntry
from marq.payloads import body_keys
from marq.queue.entries import EntryRef, Request, decode
from marq.queue.giving_up import refusals, refuse
from marq.queue.redelivery import still_wanted
from marq.registry.spec import ModelSpec
from workers.replica.clock import Clock

log = logging.getLogger(__name__)

FIRST = b"0"
LEAST_READ = 64  # entries at a time: many may be of one sequence, and no other replica could run them


class SeatReader:
    """The reader of rows for models with sequences: a batch has one row of a sequence at most.

    It also assigns requests that other producers than gateways have queued. Its methods raise
    redis.RedisError.
    """

    def __init__(
        self, connection: Connection, spec: ModelSpec, consumer: str, clock: Clock,
        on_blocked: Callable[[bool], None], job_result_ttl_ms: int,
    ) -> None:  # fmt: skip
        self._connection, self._spec, self._consumer = connection, spec, consumer
        self._clock, self._on_blocked, self._ttl_ms = clock, on_blocked, job_result_ttl_ms
        self._lane = seats.lane_of(spec, consumer)
        self._dispatch = sequences.dispatch(spec, consumer)
        self._group = ("XREADGROUP", "GROUP", keys.GROUP, consumer, "COUNT")
        self._seen = dict.fromkeys((self._lane, *keys.lanes(spec.name, spec.version)), FIRST)
        self._rows: dict[bytes, deque[Request]] = {}  # by sequence, the one whose row came first is first
        self.measure_clock()

    @property
    def held(self) -> int:
        """The rows that one batch could take: one of each sequence."""
        return len(self._rows)

    def read(self, count: int, outgoing: Sequence[Command] = (), block_ms: int = 0) -> None:
        """Sends `outgoing` and reads up to `count` rows; waits for up to `block_ms` for the first."""
        self._read(count, outgoing)
        if block_ms and not self._rows:
            wait = ("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", *self._seen, *self._seen.values())
            for stream, entries in self._connection.read((), wait, self._on_blocked) or ():
                self._seen[stream.decode()] = entries[-1][0]
            self._read(count, ())

    def read_urgent(self, count: int, outgoing: Sequence[Command]) -> None:
        """Sends `outgoing` and reads without waiting."""
        self._read(count, outgoing)

    def read_in_order(self, count: int, batch: int) -> None:  # noqa: ARG002 - there is one lane
        """Reads until `count` rows are held, if so many are there."""
        if count > self.held:
            self._read(count - self.held, ())

    def adopt(self, running: Iterable[EntryRef]) -> None:
        """Takes up the entries that were delivered to this consumer and are neither held nor `running`."""
        known = {*running, *(row.ref for rows in self._rows.values() for row in rows)}
        read = (*self._group, 10_000, "STREAMS", self._lane, FIRST)
        for lane, entries in self._connection.execute(*read) or ():
            self._keep(
                [(entry, fields) for entry, fields in entries if fields and (lane, entry) not in known]
            )

    has_suspect = False

    def take_suspect(self) -> Request | None:
        """None: a request of a sequence does not run again when its replica is lost."""
        return None

    def take(self, count: int, batch: int) -> list[Request]:  # noqa: ARG002 - there is one lane
        """One row of each of up to `count` sequences, those first that have waited longest."""
        taken = []
        for sequence in list(self._rows)[:count]:
            rows = self._rows.pop(sequence)
            taken.append(rows.popleft())
            if rows:
                self._rows[sequence] = rows
        return taken

    def still_wanted(self, rows: list[Request]) -> list[Request]:
        """The rows without those that were cancelled since they were fetched."""
        return still_wanted(self._connection, self._consumer, rows) if rows else rows

    def forget(self) -> None:
        """Holds nothing afterwards."""
        self._rows.clear()

    def give_back(self) -> None:
        """Keeps the rows: no other replica has their sequences, and clients can cancel them."""

    def age_s(self) -> float:
        """Seconds since the oldest held row was queued."""
        oldest_ms = min(rows[0].queued_ms for rows in self._rows.values())
        return self._clock.time() + self._ahead_s - oldest_ms / 1000

    def measure_clock(self) -> None:
        """Notes by how much the Redis server's clock, which stamps entries, is ahead of ours."""
        seconds, microseconds = self._connection.execute("TIME")
        self._ahead_s = int(seconds) + int(microseconds) / 1e6 - self._clock.time()

    def ask(self, count: int) -> list[Command]:
        """The commands that assign waiting requests and read at least `count` rows, for `accept`."""
        return [self._dispatch, (*self._group, max(count, LEAST_READ), "STREAMS", self._lane, ">")]

    def accept(self, replies: Sequence[Reply]) -> None:
        """Takes the replies of the commands of `ask`."""
        refused, found = replies
        self._refuse(checked(refused))
        for _, entries in checked(found) or ():
            self._seen[self._lane] = entries[-1][0]
            self._keep(entries)

    def _read(self, count: int, outgoing: Sequence[Command]) -> None:
        self.accept(self._connection.send([*outgoing, *self.ask(count)])[-2:])

    def _keep(self, entries: Iterable[tuple[bytes, list[bytes]]]) -> None:
        rows: list[Request] = []
        for entry, fields in entries:
            try:
                row = decode(self._lane, entry, fields or [])
            except MalformedEntry as error:
                log.warning(
                    "an entry of %s is malformed, and answered with 400: %s", self._lane, error.reason
                )
                self._connection.pipeline(refuse(self._spec, self._lane, entry, error))
                continue
            rows.append(row)
        if keyed := [row for row in rows if body_keys.is_ref(row.body_ref)]:
            body_keys.load(self._connection, keyed)
        for row in rows:  # now: if the connection has ended, `adopt` finds them all
            self._rows.setdefault(row.sequence, deque()).append(row)

    def _refuse(self, refused: Iterable[tuple[bytes, bytes, list[bytes], bytes]]) -> None:
        """Answers requests that the limits refuse: lane, entry, fields and limit of each."""
        for lane, entry, fields, limit in refused:
            given = dict(zip(fields[::2], fields[1::2], strict=True))
            error = sequences.refusal(self._spec, given.get(b"sequence", b""), limit)
            answers = refusals(self._spec, lane.decode(), [(entry, fields)], error, self._ttl_ms)
            self._connection.pipeline(answers)
