"""A batcher whose rows are chosen by a plugin's policy."""

import os
import time
from collections import deque
from collections.abc import Callable

from marq.connections.blocking import Connection
from marq.payloads.place import Place
from marq.plugins.protocols import BATCHING, OWN_POLICIES, Held, Row
from marq.queue.entries import Request
from marq.registry.spec import ModelSpec
from marq.settings.retention import SETTINGS_PREFIX
from workers.replica.batcher import Batcher
from workers.replica.clock import Clock
from workers.replica.lane_reader import LaneReader
from workers.replica.policies.policy import Policy
from workers.replica.source import RowReader
from workers.replica.waiting import WaitingRule

WINDOW = 4  # batches: so many rows are held to be chosen from; other replicas cannot have them meanwhile
MOST_PASSED = 8  # batches in a row without the row that is first by marq's order; then that order is used


class ChoosingReader(LaneReader):
    """The lanes, from which the policy takes rows."""

    policy: Policy
    handler_s: Callable[[], float]

    _passed = 0

    def take(self, count: int, batch: int) -> list[Request]:
        """The rows that the policy chooses, or marq's order if it fails or passes the first row too often."""
        if (room := WINDOW * count - self.held) > 0:
            self.read(room)
        rows = self._in_order(batch)
        chosen = self.policy.choose(self.look(batch)) if self._passed < MOST_PASSED else None
        self._passed = self._passed + 1 if chosen is not None and 0 not in chosen else 0
        taken = [rows[index] for index in chosen] if chosen is not None else rows[:count]
        self._remove(taken, batch)
        return taken

    def look(self, batch: int) -> Held:
        """The held rows as a policy sees them."""
        spec = self._spec
        return Held(
            rows=[_seen(row) for row in self._in_order(batch)],
            batch_size=spec.batch_size,
            max_batch_delay_s=spec.max_batch_delay_ms / 1000,
            handler_s=self.handler_s(),
            now_ms=int((self._clock.time() + self._ahead_s) * 1000),
        )

    def _in_order(self, batch: int) -> list[Request]:
        return [row for name in self.order(batch) for row in self._rows[name]]

    def _remove(self, taken: list[Request], batch: int) -> None:
        gone = {row.ref for row in taken}
        for name, rows in self._rows.items():
            left = deque(row for row in rows if row.ref not in gone)
            if len(left) < len(rows):
                self._served[name] = batch
            self._rows[name] = left
        self.held -= len(taken)


class PolicyRule(WaitingRule):
    """Waits as the policy says, within the batching delay."""

    def __init__(self, spec: ModelSpec, reader: ChoosingReader) -> None:
        super().__init__(spec)
        self._reader = reader

    def longest_s(self, rows: int, age_s: float, handler_s: float) -> float:
        wanted = self._reader.policy.wait_s(self._reader.look(1))
        if wanted is None:
            return super().longest_s(rows, age_s, handler_s)
        return min(wanted, self._delay_s - age_s)

    def is_complete(self, rows: int, batches: int) -> bool:
        wanted = self._reader.policy.wait_s(self._reader.look(1))
        return super().is_complete(rows, batches) if wanted is None else wanted <= 0


def batcher_for(
    connection: Connection,
    spec: ModelSpec,
    consumer: str,
    on_blocked: Callable[[bool], None] = lambda _: None,
    place: Place | None = None,
    reader: RowReader | None = None,
) -> Batcher:
    """The batcher of a model, as `Batcher`: with a plugin's policy if the model names one.

    Raises PluginError if there is none of that name.
    """
    if spec.batching in OWN_POLICIES or reader is not None:
        return Batcher(connection, spec, consumer, on_blocked, place=place, reader=reader)
    from marq.plugins import discovery  # few replicas need it

    given = (os.environ.get(f"{SETTINGS_PREFIX}{name}", "") for name in ("PLUGINS_PATH", "PLUGINS_LEFT_OUT"))
    policy = Policy(discovery.load_named(BATCHING, spec.batching, *given))
    return choosing_batcher(policy, connection, spec, consumer, on_blocked, place=place)


def choosing_batcher(
    policy: Policy,
    connection: Connection,
    spec: ModelSpec,
    consumer: str,
    on_blocked: Callable[[bool], None] = lambda _: None,
    clock: Clock = time,
    place: Place | None = None,
) -> Batcher:
    """A batcher with this policy."""
    reader = ChoosingReader(connection, spec, consumer, clock, on_blocked, place)
    rule = PolicyRule(spec, reader)
    batcher = Batcher(connection, spec, consumer, on_blocked, clock, place, reader, rule)
    reader.policy, reader.handler_s = policy, lambda: batcher.handler_s
    return batcher


def _seen(row: Request) -> Row:
    deadline = row.deadline
    return Row(
        queued_ms=row.queued_ms,
        deadline_ms=int(deadline) if deadline.isdigit() else None,
        priority=row.lane.partition("}:")[2].partition(":")[0],
        bytes=len(row.body),
        content_type=row.type.decode("latin-1"),
    )
