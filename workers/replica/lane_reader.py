"""Reads the lanes of a model version for one replica, and holds the fetched rows until a batch takes them."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from marq import keys
from marq.connections.blocking import Connection, checked
from marq.connections.commands import Reply
from marq.connections.urls import Command
from marq.errors import MalformedEntry
from marq.payloads import body_keys
from marq.payloads.place import Place
from marq.queue.entries import EntryRef, Request, decode
from marq.queue.giving_up import Entry, refuse
from marq.queue.redelivery import pass_on, put_back, still_wanted
from marq.registry.spec import ModelSpec
from workers.replica.clock import Clock

log = logging.getLogger(__name__)

LaneEntries = Sequence[tuple[bytes, Sequence[Entry]]]  # by lane, as XREADGROUP gives them
LANES = (keys.FRONT, *keys.LANES)  # the most urgent first
URGENT = (keys.FRONT, keys.HIGH)  # read also while rows of other lanes are held
LOW_LANES_FIRST_EVERY = 8  # batches: `normal` or `low`, in turns, come first, if none of theirs ran meanwhile
MOST_ADOPTED = 10_000  # entries of each lane
PASS_ON_PAUSE_S = 0.02  # in which a replica of another host can take a row that only it can run
TRUSTED_S = 0.05  # rows held for longer are checked for cancellation before they run


class LaneReader:
    """Knows the streams, the consumer and the fetched rows; the batcher decides when and how many to read.

    Its methods raise redis.RedisError.
    """

    def __init__(
        self,
        connection: Connection,
        spec: ModelSpec,
        consumer: str,
        clock: Clock,
        on_blocked: Callable[[bool], None],
        place: Place | None = None,
    ) -> None:
        """`place`: of the bodies that are files."""
        self._place = place
        self._connection, self._spec, self._consumer = connection, spec, consumer
        self._clock, self._on_blocked = clock, on_blocked
        self._streams = {name: keys.lane(spec.name, spec.version, name) for name in LANES}
        self._names = {stream.encode(): name for name, stream in self._streams.items()}
        self._group = ("XREADGROUP", "GROUP", keys.GROUP, consumer)
        self._rows: dict[str, deque[Request]] = {name: deque() for name in LANES}
        self._served = dict.fromkeys(LANES, 0)  # the last batch with a row of each
        self.held = 0  # rows that were fetched and not yet taken
        self._fetched = 0.0  # when the oldest of them was
        self.measure_clock()

    def read(
        self,
        count: int,
        outgoing: Sequence[Command] = (),
        block_ms: int = 0,
        lanes: Iterable[str] = LANES,
    ) -> None:
        """Sends `outgoing` and one read of up to `count` rows of each lane; waits for up to `block_ms`."""
        command = self._command(count, lanes, block_ms)
        on_blocked = self._on_blocked if block_ms else _ignore
        self._keep(self._connection.read(outgoing, command, on_blocked))

    def _command(self, count: int, lanes: Iterable[str], block_ms: int = 0) -> Command:
        streams = [self._streams[name] for name in lanes]
        block = ("BLOCK", block_ms) if block_ms else ()
        return (*self._group, "COUNT", count, *block, "STREAMS", *streams, *(">" for _ in streams))

    def ask(self, count: int) -> list[Command]:
        """The commands that read up to `count` rows of each lane, for `accept`."""
        return [self._command(count, LANES)]

    def accept(self, replies: Sequence[Reply]) -> None:
        """Takes the replies of the commands of `ask`."""
        self._keep(checked(replies[0]))

    def read_urgent(self, count: int, outgoing: Sequence[Command]) -> None:
        """Sends `outgoing`, and reads the urgent lanes of which no rows are held.

        The others are left alone: a lane that is never empty would keep the replica from all other lanes.
        """
        if lanes := [name for name in URGENT if not self._rows[name]]:
            self.read(count, outgoing, lanes=lanes)
        else:
            self._connection.send(outgoing)

    def order(self, batch: int) -> list[str]:
        """The lanes in the order in which this batch, by its number, takes rows from them."""
        order = list(LANES)
        rounds, others = divmod(batch, LOW_LANES_FIRST_EVERY)
        if others == 0:
            name = (keys.NORMAL, keys.LOW)[rounds % 2]
            if batch - self._served[name] >= LOW_LANES_FIRST_EVERY:
                order.insert(1, name)
        return order

    def read_in_order(self, count: int, batch: int) -> None:
        """Reads until `count` rows are held, one lane after the other in the order of this batch.

        One read of all lanes would bring `count` rows of each: with a slow handler most would wait here.
        """
        for name in self.order(batch):
            if (missing := count - self.held) > 0:
                self.read(missing, lanes=[name])

    def adopt(self, running: Iterable[EntryRef]) -> None:
        """Takes up the entries that were delivered to this consumer and are neither held nor `running`."""
        known = {*running, *(row.ref for rows in self._rows.values() for row in rows)}
        history = ("STREAMS", *self._streams.values(), *("0" for _ in LANES))
        for lane, entries in self._connection.execute(*self._group, "COUNT", MOST_ADOPTED, *history) or ():
            lost = [(entry, fields) for entry, fields in entries if fields and (lane, entry) not in known]
            self._keep([(lane, lost)] if lost else None)

    def _keep(self, reply: LaneEntries | None) -> None:
        if not reply:
            return
        if not self.held:
            self._fetched = self._clock.monotonic()
        keyed: list[Request] = []
        fetched = [(name := self._names[lane], self._decoded(name, found, keyed)) for lane, found in reply]
        if keyed:
            body_keys.load(self._connection, keyed)
        for name, rows in fetched:  # now: if the connection has ended, `adopt` finds them all
            self._rows[name].extend(rows)
            self.held += len(rows)

    def _decoded(
        self, name: str, entries: Iterable[tuple[bytes, list[bytes]]], keyed: list[Request]
    ) -> list[Request]:
        """The rows of a lane's entries, less those that are refused or passed on.

        Those whose bodies are keys are added to `keyed`, too.
        """
        stream, rows = self._streams[name], list[Request]()
        for entry, fields in entries:
            try:
                row = decode(stream, entry, fields or [])
            except MalformedEntry as error:
                self._refuse(stream, entry, error)
                continue
            if row.body_ref:
                if body_keys.is_ref(row.body_ref):
                    keyed.append(row)
                elif self._pass_on(row):
                    continue
            rows.append(row)
        return rows

    def _pass_on(self, row: Request) -> bool:
        """Whether the row's body is a file of another host, and the row was left to a replica there."""
        if not self._is_elsewhere(row.body_ref):
            return False
        passed = pass_on(self._connection, self._spec, row)
        if passed:
            self._clock.sleep(PASS_ON_PAUSE_S)
        return passed

    def _is_elsewhere(self, ref: bytes) -> bool:
        try:
            return self._place is None or self._place.is_elsewhere(ref)
        except OSError:
            return True

    def _refuse(self, stream: str, entry: bytes, error: MalformedEntry) -> None:
        log.warning(
            "entry %s of %s is malformed, and answered with 400: %s", entry.decode(), stream, error.reason
        )
        self._connection.pipeline(refuse(self._spec, stream, entry, error))

    @property
    def has_suspect(self) -> bool:
        """Whether a held row was running when its replica was lost."""
        return any(row.attempts != b"0" for row in self._rows[keys.FRONT])

    def take_suspect(self) -> Request | None:
        """A held row that was running when its replica was lost, if there is one."""
        front = self._rows[keys.FRONT]
        for row in front:
            if row.attempts != b"0":
                front.remove(row)
                self.held -= 1
                return row
        return None

    def take(self, count: int, batch: int) -> list[Request]:
        """Up to `count` held rows, in the order of this batch."""
        taken: list[Request] = []
        for name in self.order(batch):
            rows = self._rows[name]
            if rows and len(taken) < count:
                self._served[name] = batch
            while rows and len(taken) < count:
                taken.append(rows.popleft())
        self.held -= len(taken)
        return taken

    def still_wanted(self, rows: list[Request]) -> list[Request]:
        """The rows without those that were cancelled while they were held."""
        if rows and self._clock.monotonic() - self._fetched > TRUSTED_S:
            return still_wanted(self._connection, self._consumer, rows)
        return rows

    def forget(self) -> list[Request]:
        """Holds nothing afterwards; returns the rows that were held."""
        forgotten = [row for rows in self._rows.values() for row in rows]
        for rows in self._rows.values():
            rows.clear()
        self.held = 0
        return forgotten

    def give_back(self) -> None:
        """Moves the held rows to the front of the queue, for other replicas."""
        rows = self.forget()
        put_back(self._connection, self._spec, self._consumer, rows)
        log.info(
            "the handler of %s takes much longer than usual: %d fetched rows went back to the queue",
            self._spec.key, len(rows),
        )  # fmt: skip

    def age_s(self) -> float:
        """Seconds since the oldest held row was queued."""
        oldest_ms = min(rows[0].queued_ms for rows in self._rows.values() if rows)
        return self._clock.time() + self._ahead_s - oldest_ms / 1000

    def measure_clock(self) -> None:
        """Notes by how much the Redis server's clock, which stamps entries, is ahead of ours."""
        seconds, microseconds = self._connection.execute("TIME")
        self._ahead_s = int(seconds) + int(microseconds) / 1e6 - self._clock.time()


def _ignore(_: bool) -> None:
    """For reads that do not wait."""
