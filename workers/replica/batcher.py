"""Forms batches of the requests in a model version's lanes.

One blocking XREADGROUP over all lanes is the only wait for a first row. `batchSize` is the maximum number of
rows of a batch; `maxBatchDelay` the batching delay, counted from the oldest row's arrival in Redis.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from marq.connections.blocking import Connection
from marq.connections.commands import Reply
from marq.connections.urls import Command
from marq.payloads.place import Place
from marq.queue.entries import EntryRef, Request
from marq.registry.spec import ModelSpec
from workers.replica.clock import Clock
from workers.replica.lane_reader import LaneReader
from workers.replica.prefetcher import Prefetcher
from workers.replica.slow_handler import SlowHandlerWatch
from workers.replica.source import RowReader
from workers.replica.waiting import MIN_PAUSE_S, WaitingRule, batches_ahead, pause_s

T = TypeVar("T")

IDLE_BLOCK_MS = 1000  # the longest wait for a first row
SLOW_S = 0.005  # slower handlers run while the next batch is fetched
LEAD_S = 0.002  # before their expected end, but not in the first half of their run
SMOOTHING = 0.2  # weight of the last batch in the moving average of the handler's time


class Batcher:
    """The batch source of models whose handler runs a batch in one call."""

    def __init__(
        self,
        connection: Connection,
        spec: ModelSpec,
        consumer: str,
        on_blocked: Callable[[bool], None] = lambda _: None,
        clock: Clock = time,
        place: Place | None = None,
        reader: RowReader | None = None,
        rule: WaitingRule | None = None,
    ) -> None:
        """`on_blocked` is called with True before and False after each wait for a first row.

        `place`: of the bodies that are files. `reader`: if the rows do not come from the lanes. `rule`: if
        the model's settings do not say how long a batch waits.
        """
        self._connection, self._spec, self._clock = connection, spec, clock
        self._reader: RowReader = reader or LaneReader(connection, spec, consumer, clock, on_blocked, place)
        self._rule = rule or WaitingRule(spec)
        self._watch = SlowHandlerWatch(self._reader.give_back, clock.monotonic)
        self._prefetcher = Prefetcher(lambda: self._watch.fetch(self._read_ahead), clock.monotonic)
        self._failure: Exception | None = None
        self._batches = 0
        self.prefetched = False
        self.handler_s = 0.0

    @property
    def held(self) -> int:
        return self._reader.held

    def fetch(self, outgoing: list[Command]) -> None:
        """A fast handler gets several batches at once."""
        if self.handler_s > SLOW_S:
            self._connection.send(outgoing)
            outgoing = []
            self._reader.read_in_order(self._spec.batch_size, self._batches + 1)
            if self._reader.held:
                return
        rows = self._spec.batch_size * batches_ahead(self.handler_s)
        self._reader.read(rows, outgoing, IDLE_BLOCK_MS)
        if 0 < self._reader.held < self._rule.expected / 2:  # the first of many: the others are there by now
            self._reader.read(rows)

    def refresh(self, outgoing: list[Command]) -> None:
        self._reader.read_urgent(self._spec.batch_size, outgoing)

    def take(self) -> list[Request]:
        """Rows that a lost replica was running come alone, so that the one to blame is found."""
        if suspect := self._reader.take_suspect():
            return self._reader.still_wanted([suspect])
        if not self._reader.held:
            return []
        self._batches += 1
        self._wait_for_more()
        self._rule.record(self._reader.held)
        return self._reader.still_wanted(self._reader.take(self._spec.batch_size, self._batches))

    def take_now(self, room: int) -> list[Request]:
        """A row that a lost replica was running waits until it can run alone."""
        if room <= 0 or not self._reader.held or self._reader.has_suspect:
            return []
        self._batches += 1
        return self._reader.take(room, self._batches)

    def ask(self, room: int) -> list[Command]:
        missing = room - self._reader.held
        return self._reader.ask(missing) if missing > 0 else []

    def accept(self, replies: Sequence[Reply]) -> None:
        if replies:
            self._reader.accept(replies)

    def run_handler(self, handler: Callable[[], T]) -> T:
        """A slow handler runs while the next batch is fetched; a late one loses the fetched rows."""
        ahead = not self._reader.held and self.handler_s > SLOW_S
        if ahead:
            self._prefetcher.schedule(max(self.handler_s / 2, self.handler_s - LEAD_S))
        self._watch.begin(self.handler_s, self._reader.held > 0)
        began = self._clock.monotonic()
        try:
            result = handler()
            self.record_handler_time(self._clock.monotonic() - began)
        finally:
            if ahead:
                self._failure = self._prefetcher.settle()
            self._watch.end()
        self.prefetched = ahead and self._reader.held > 0
        return result

    def record_handler_time(self, seconds: float) -> None:
        """Notes how long the handler took for a batch."""
        self.handler_s += (seconds - self.handler_s) * SMOOTHING if self.handler_s else seconds

    def raise_failure(self) -> None:
        failure = self._failure or self._watch.failure
        self._failure = self._watch.failure = None
        if failure:
            raise failure

    def reset(self) -> None:
        self._reader.forget()
        self.prefetched = False
        self._reader.measure_clock()

    def adopt(self, running: Iterable[EntryRef]) -> None:
        self._reader.adopt(running)

    def _wait_for_more(self) -> None:
        """Sleeps and reads in turns: Redis ends a blocking read up to 100 ms late."""
        rows = self._spec.batch_size
        if self._reader.held >= rows:
            return
        left_s = self._rule.longest_s(self._reader.held, self._reader.age_s(), self.handler_s)
        end, pause = self._clock.monotonic() + left_s, pause_s(left_s)
        while (
            left_s >= MIN_PAUSE_S
            and self._reader.held < rows
            and not self._rule.is_complete(self._reader.held, self._batches)
        ):
            self._clock.sleep(min(pause, left_s))
            self._reader.read(rows - self._reader.held)
            left_s = end - self._clock.monotonic()

    def _read_ahead(self) -> None:
        if self.handler_s > SLOW_S:
            self._reader.read_in_order(self._spec.batch_size, self._batches + 1)
        else:
            self._reader.read(self._spec.batch_size)
