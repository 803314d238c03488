"""Takes requests from a model version's lanes and forms batches.

One blocking XREADGROUP over all lanes is the only wait. `batchSize` is the most rows of a batch;
`maxBatchDelay` the longest that the oldest row waits for company, counted from its arrival in Redis.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from marq import keys
from marq.connections.blocking import Connection
from marq.connections.urls import Command
from marq.errors import MalformedEntry
from marq.queue.entries import Request, decode
from marq.queue.giving_up import refuse
from marq.queue.redelivery import put_back, still_wanted
from marq.registry.spec import ModelSpec
from workers.replica.overrun import HELD_S, Overrun
from workers.replica.prefetcher import Prefetcher

log = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_BLOCK_MS = 1000
SLOW_S, LEAD_S = 0.005, 0.002  # handlers that are fetched for while they run, and how long before their end
URGENT = (keys.FRONT, keys.HIGH)  # looked at also while rows of other lanes are held
LOW_LANES_FIRST_EVERY = 8  # batches: the share that keeps `normal` and `low`, in turns, from starving
PROBE_EVERY = 16  # batches: how often waiting is tried where it has not paid lately
COMPANY_MEMORY = 16  # batches over which the largest number of rows seen together is remembered
MIN_HANDLER_S = 0.001  # a faster handler is never kept waiting
LINGER = 0.05  # of the handler's time: how long rows whose delay has passed may wait for company
MIN_PAUSE_S, MOST_LOOKS = 0.0005, 10  # between two looks for company, and how many there are
MOST_ADOPTED = 10_000
AHEAD_S, MOST_AHEAD = 0.001, 32  # what is fetched ahead: so much work, so many batches
TRUSTED_S = 0.05  # rows that were held for longer may have been cancelled: it is looked whether they were


class Batcher:
    """Forms the batches of one replica."""

    def __init__(self, connection: Connection, spec: ModelSpec, consumer: str) -> None:
        self._connection = connection
        self._spec, self._consumer = spec, consumer
        self._lanes = {name: keys.lane(spec.name, spec.version, name) for name in (keys.FRONT, *keys.LANES)}
        self._names = {lane.encode(): name for name, lane in self._lanes.items()}
        self._group = ("XREADGROUP", "GROUP", keys.GROUP, consumer)
        self._held: dict[str, deque[Request]] = {name: deque() for name in self._lanes}
        self._company: deque[int] = deque(maxlen=COMPANY_MEMORY)
        self._batches = 0
        self._clock_offset_s = self._measure_clock()
        self._overrun = Overrun(self._give_back)
        self._prefetcher = Prefetcher(lambda: self._overrun.fetch(self._read_ahead))
        self._failure: Exception | None = None
        self._fetched = 0.0  # when the oldest row that is held was
        self.prefetched = False  # whether rows were fetched during the last run
        self.handler_s = 0.0  # how long the handler takes for a batch, smoothed
        self.on_blocked: Callable[[bool], None] = lambda _: None

    def fetch(self, outgoing: list[Command]) -> None:
        """Sends `outgoing` and waits up to a second for rows; a fast handler gets some batches ahead."""
        if self.handler_s > HELD_S:
            self._connection.send(outgoing)
            outgoing = []
            self._read_in_order()
            if self.held:
                return
        rows = self._spec.batch_size * self._batches_ahead()
        self._read(rows, outgoing, IDLE_BLOCK_MS)
        if 0 < self.held < max(self._company, default=0) / 2:
            self._read(rows)

    def run(self, handler: Callable[[], T]) -> T:
        """Runs a handler; fetches the next batch meanwhile, if the handler is slow and nothing is held.

        What goes wrong with that is raised by `check`, so that the result can be kept first.
        """
        ahead = not self.held and self.handler_s > SLOW_S
        if ahead:
            self._prefetcher.schedule(max(self.handler_s / 2, self.handler_s - LEAD_S))
        self._overrun.begin(self.handler_s, self.held > 0)
        began = time.monotonic()
        try:
            result = handler()
            self.ran(time.monotonic() - began)
        finally:
            if ahead:
                self._failure = self._prefetcher.settle()
            self._overrun.end()
        self.prefetched = ahead and self.held > 0
        return result

    def ran(self, seconds: float) -> None:
        """Tells how long the handler took for a batch."""
        self.handler_s += (seconds - self.handler_s) * 0.2 if self.handler_s else seconds

    def check(self) -> None:
        """Raises what went wrong when the next batch was fetched, or given back, during the last run."""
        failure = self._failure or self._overrun.failure
        self._failure = self._overrun.failure = None
        if failure:
            raise failure

    def refresh(self, outgoing: list[Command]) -> None:
        """Sends `outgoing`, and looks for what is more urgent than the rows that are held.

        A lane of which rows are held is not read, so that `fetch` has its turn though one is never empty.
        """
        if lanes := [name for name in URGENT if not self._held[name]]:
            self._read(self._spec.batch_size, outgoing, lanes=lanes)
        else:
            self._connection.send(outgoing)

    def take(self) -> list[Request]:
        """The next batch of what was fetched, and of what comes while waiting may pay.

        Rows that a lost replica was running come alone, so that the one to blame is found.
        """
        front = self._held[keys.FRONT]
        if suspect := next((request for request in front if request.attempts != b"0"), None):
            front.remove(suspect)
            batch = [suspect]
        else:
            if self.held:
                self._batches += 1
                self._wait_for_company()
                self._company.append(min(self.held, self._spec.batch_size))
            batch = self._take()
        if batch and time.monotonic() - self._fetched > TRUSTED_S:
            return still_wanted(self._connection, self._consumer, batch)
        return batch

    def reset(self) -> None:
        """Forgets what was fetched: on a new connection, after that has been put back."""
        for queue in self._held.values():
            queue.clear()
        self.prefetched = False
        self._clock_offset_s = self._measure_clock()

    def adopt(self, running: Iterable[tuple[str, bytes]]) -> None:
        """Takes up, on a new connection, what was sent to this consumer and never arrived.

        `running`: (lane, entry) of what was taken and is not acknowledged yet.
        """
        known = {*running, *((row.lane, row.entry) for queue in self._held.values() for row in queue)}
        history = ("STREAMS", *self._lanes.values(), *("0" for _ in self._lanes))
        for lane, entries in self._connection.execute(*self._group, "COUNT", MOST_ADOPTED, *history) or ():
            for entry, fields in entries:
                if fields and (lane.decode(), entry) not in known:
                    self._keep(self._names[lane], entry, fields)

    @property
    def held(self) -> int:
        """Rows that were fetched and not yet run."""
        return sum(map(len, self._held.values()))

    def _give_back(self) -> None:
        """Leaves what is held to others, as this handler does not come to its end."""
        rows = [row for queue in self._held.values() for row in queue]
        for queue in self._held.values():
            queue.clear()
        log.info("the handler takes long: %d rows go back to the queue", len(rows))
        put_back(self._connection, self._spec, self._consumer, rows)

    # waiting

    def _wait_for_company(self) -> None:
        """Looks again and again rather than to block: Redis ends a blocked read up to 100 ms late."""
        patience = self._patience()
        end = time.monotonic() + patience
        pause = max(MIN_PAUSE_S, patience / MOST_LOOKS)
        while patience >= MIN_PAUSE_S and self.held < self._spec.batch_size and not self._complete():
            time.sleep(min(pause, patience))
            self._read(self._spec.batch_size - self.held)
            patience = end - time.monotonic()

    def _batches_ahead(self) -> int:
        """How many batches are fetched at once: as many as run in so short a time that no idle sibling
        would have come to them earlier."""
        return max(1, min(MOST_AHEAD, int(AHEAD_S / self.handler_s))) if self.handler_s else 1

    def _patience(self) -> float:
        """How long waiting for more rows may pay, in seconds.

        Not beyond the oldest row's delay, but for a moment in any case: the clients that have just been
        answered may be about to ask again. Nor, unless `batching: fixed`, for longer than the handler
        takes: running what is here would by then be done, and the newcomers be the next batch.
        """
        if self.held >= self._spec.batch_size:
            return 0.0
        left = self._spec.max_batch_delay_ms / 1000 - self._age_of_oldest()
        if self._spec.batching == "fixed":
            return left
        if self.handler_s < MIN_HANDLER_S:
            return 0.0
        return min(max(left, self.handler_s * LINGER, MIN_PAUSE_S), self.handler_s)

    def _complete(self) -> bool:
        """Whether as many rows are here as have come together lately: then no more are expected."""
        if self._spec.batching == "fixed" or self._batches % PROBE_EVERY == 0:
            return False
        return self.held >= max(self._company, default=1)

    def _age_of_oldest(self) -> float:
        oldest = min(queue[0].queued_ms for queue in self._held.values() if queue)
        return time.time() + self._clock_offset_s - oldest / 1000

    def _measure_clock(self) -> float:
        """Seconds by which the Redis server's clock, which stamps entries, is ahead of ours."""
        seconds, microseconds = self._connection.execute("TIME")
        return int(seconds) + int(microseconds) / 1e6 - time.time()

    # taking

    def _take(self) -> list[Request]:
        batch: list[Request] = []
        for name in self._order(self._batches):
            queue = self._held[name]
            while queue and len(batch) < self._spec.batch_size:
                batch.append(queue.popleft())
        return batch

    def _order(self, batches: int) -> list[str]:
        """In which lanes have their turn after so many batches; the first place counts."""
        order = [keys.FRONT, *keys.LANES]
        rounds, others = divmod(batches, LOW_LANES_FIRST_EVERY)
        if others == 0:
            order.insert(1, (keys.NORMAL, keys.LOW)[rounds % 2])
        return order

    def _read_ahead(self) -> None:
        if self.handler_s > HELD_S:
            self._read_in_order()
        else:
            self._read(self._spec.batch_size)

    def _read_in_order(self) -> None:
        """One batch, from the lanes whose turn it is: Redis would give as many rows of each, and with a slow
        handler those of the others would wait here for long."""
        for name in self._order(self._batches + 1):
            if (missing := self._spec.batch_size - self.held) > 0:
                self._read(missing, lanes=[name])

    def _read(
        self,
        count: int,
        outgoing: Iterable[Command] = (),
        block_ms: int = 0,
        lanes: Iterable[str] = (keys.FRONT, *keys.LANES),
    ) -> None:
        """Sends `outgoing` and one read, without waiting unless told to; keeps what comes."""
        on_blocked = self.on_blocked if block_ms else lambda _: None
        command = self._command(count, block_ms, lanes)
        self._keep_all(self._connection.read(list(outgoing), command, on_blocked))

    def _command(self, count: int, block_ms: int, lanes: Iterable[str]) -> Command:
        streams = [self._lanes[name] for name in lanes]
        block = ("BLOCK", block_ms) if block_ms else ()
        return (*self._group, "COUNT", count, *block, "STREAMS", *streams, *(">" for _ in streams))

    def _keep_all(self, reply: Any) -> None:
        if reply and not self.held:
            self._fetched = time.monotonic()
        for lane, entries in reply or ():
            name = self._names[lane]
            for entry, fields in entries:
                self._keep(name, entry, fields)

    def _keep(self, name: str, entry: bytes, fields: Any) -> None:
        lane = self._lanes[name]
        try:
            self._held[name].append(decode(lane, entry, fields or []))
        except MalformedEntry as error:
            log.warning("entry %s of %s is not a request: %s", entry.decode(), lane, error.reason)
            self._connection.pipeline(refuse(self._spec, lane, entry, error))
