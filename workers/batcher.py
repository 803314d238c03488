"""Takes requests from a model version's lanes and forms batches.

One blocking XREADGROUP over all lanes is the only wait. `batchSize` is the most rows of a batch;
`maxBatchDelay` the longest that the oldest row waits for company, counted from its arrival in Redis.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from marq import keys
from marq.connection import Command, Connection
from marq.errors import MalformedEntry
from marq.message import Request, decode
from marq.registry import ModelSpec

log = logging.getLogger(__name__)

IDLE_BLOCK_MS = 1000
LOW_LANES_FIRST_EVERY = 8  # batches: the share that keeps `normal` and `low` from starving
PROBE_EVERY = 16  # batches: how often waiting is tried where it has not paid lately
COMPANY_MEMORY = 32  # batches over which the largest number of rows seen together is remembered
MIN_WAIT_S = 0.001  # Redis blocks for whole milliseconds


class Batcher:
    """Forms the batches of one replica."""

    def __init__(self, connection: Connection, spec: ModelSpec, consumer: str) -> None:
        self._connection = connection
        self._spec = spec
        self._lanes = {name: keys.lane(spec.name, spec.version, name) for name in (keys.FRONT, *keys.LANES)}
        self._names = {lane.encode(): name for name, lane in self._lanes.items()}
        self._streams = (*self._lanes.values(), *(">" for _ in self._lanes))
        self._group = ("XREADGROUP", "GROUP", keys.GROUP, consumer)
        self._held: dict[str, deque[Request]] = {name: deque() for name in self._lanes}
        self._company: deque[int] = deque(maxlen=COMPANY_MEMORY)
        self._batches = 0
        self._clock_offset_s = self._measure_clock()
        self.handler_s = 0.0  # how long the handler takes for a batch, smoothed
        self.on_blocked: Callable[[bool], None] = lambda _: None

    def next(self, outgoing: list[Command]) -> list[Request]:
        """Sends `outgoing`, then returns the next batch; empty when nothing came for a second.

        Rows that a lost replica was running come alone, so that the one to blame is found.
        """
        if self.held:
            self._connection.pipeline(outgoing) if outgoing else None
        else:
            self._read(self._spec.batch_size, IDLE_BLOCK_MS, outgoing)
        if front := self._held[keys.FRONT]:
            suspect = next((request for request in front if request.attempts != b"0"), None)
            if suspect:
                front.remove(suspect)
                return [suspect]
        self._wait_for_company()
        return self._take()

    @property
    def held(self) -> int:
        """Rows that were fetched and not yet run."""
        return sum(map(len, self._held.values()))

    def ran(self, seconds: float) -> None:
        """Tells how long the handler took for the last batch."""
        self.handler_s += (seconds - self.handler_s) * 0.2 if self.handler_s else seconds

    # waiting

    def _wait_for_company(self) -> None:
        began_with = self.held
        if not began_with:
            return
        self._batches += 1
        patience = self._patience()
        end = time.monotonic() + patience
        while patience >= MIN_WAIT_S and 0 < self.held < self._spec.batch_size and not self._complete():
            self._read(self._spec.batch_size - self.held, max(1, int(patience * 1000)))
            patience = end - time.monotonic()
        self._company.append(self.held)

    def _patience(self) -> float:
        """How long waiting for more rows may pay, in seconds.

        Never beyond the oldest row's delay. Nor, unless `batching: fixed`, for longer than the handler
        takes: running what is here would by then be done, and the newcomers be the next batch.
        """
        room = self._spec.batch_size - self.held
        if room <= 0:
            return 0.0
        left = self._spec.max_batch_delay_ms / 1000 - self._age_of_oldest()
        return left if self._spec.batching == "fixed" else min(left, self.handler_s)

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
        order = [keys.FRONT, *keys.LANES]
        if self._batches % LOW_LANES_FIRST_EVERY == 0:
            order = [keys.FRONT, *reversed(keys.LANES)]
        batch: list[Request] = []
        for name in order:
            queue = self._held[name]
            while queue and len(batch) < self._spec.batch_size:
                batch.append(queue.popleft())
        return batch

    def _read(self, count: int, block_ms: int, outgoing: list[Command] | None = None) -> None:
        """Sends `outgoing` and one blocking read; keeps what comes."""
        read = (*self._group, "COUNT", count, "BLOCK", block_ms, "STREAMS", *self._streams)
        for lane, entries in self._connection.read(outgoing or [], read, self.on_blocked) or ():
            name = self._names[lane]
            for entry, fields in entries:
                self._keep(name, entry, fields)

    def _keep(self, name: str, entry: bytes, fields: Any) -> None:
        lane = self._lanes[name]
        try:
            self._held[name].append(decode(lane, entry, fields or []))
        except MalformedEntry as error:
            log.warning("entry %s of %s is not a request: %s", entry.decode(), lane, error.reason)
            self._connection.pipeline(bury(self._spec, lane, entry, error.fields, error.reason))


def bury(spec: ModelSpec, lane: str, entry: bytes, fields: list[bytes], reason: str) -> list[Command]:
    """The commands that move an entry to its model's dead letters."""
    about = ("reason", reason, "version", spec.version, "lane", lane, "entry", entry)
    original = [part for pair in zip(fields[::2], fields[1::2], strict=False) for part in pair]
    return [
        ("XADD", keys.dead_letters(spec.name), "MAXLEN", "~", 10_000, "*", *about, *original),
        ("XACK", lane, keys.GROUP, entry),
        ("XDEL", lane, entry),
    ]
