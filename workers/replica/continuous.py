"""The main loop of a replica with continuous batching: rows join and leave between two steps."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable

from marq import keys
from marq.connections.blocking import checked
from marq.connections.commands import Reply as RedisReply
from marq.connections.urls import Command
from marq.errors import DeadlineExceeded
from marq.queue.entries import Request
from marq.queue.redelivery import requeue
from marq.queue.replies.entries import JSON_HEADERS, Reply
from workers import scoreboard
from workers.handler.call import HandlerCall
from workers.handler.measurements import Collector
from workers.handler.steps import LiveRow
from workers.launch import ReplicaSpec
from workers.replica.late_rows import split_late
from workers.replica.loop import Replica

log = logging.getLogger(__name__)

MOST_PENDING = 10_000
TALK_EVERY_S = 0.003  # the parts of quick steps leave together
LATE = DeadlineExceeded("The deadline of the request passed while it ran.")
QUICK_S = 0.002  # a faster step does not wait for Redis: new rows join one step later


class ContinuousReplica(Replica):
    """Keeps up to `batchSize` rows live. It waits for rows only while none is live.

    Between two steps it asks Redis for new rows and for cancelled ones. With quick steps it does so once in
    `TALK_EVERY_S`, and the answer comes while the next step runs.
    """

    def __init__(
        self, spec: ReplicaSpec, call: HandlerCall, board: scoreboard.Scoreboard, collector: Collector
    ) -> None:
        super().__init__(spec, call, board, collector)
        self._live: list[LiveRow] = []
        self._asked: list[Command] = []  # the last commands that were posted: looks and reads
        self._lanes: list[bytes] = []  # of the looks among them
        self._talked = self._step_s = 0.0
        self._has_lost = False  # whether rows have left since the last step began

    def _step(self) -> None:
        self._outgoing += self._collector.due(time.time())
        self._drop_late()
        is_quick = self._step_s < QUICK_S
        talks = not self._live or not is_quick or time.monotonic() - self._talked >= TALK_EVERY_S
        if self._live and not is_quick:
            self._ask_now()
        elif talks:
            self._collect()
        changed = self._welcome(self._newcomers() if self._live else self._first())
        if not self._live:
            if changed:
                self._board.end(0)
            return
        if changed:
            self._board.begin([row.request for row in self._live])
        else:
            self._board.touch()
        if talks:
            self._post(asks=is_quick)
        self._run_step()

    def _first(self) -> list[Request]:
        """Waits for rows, by the rule for batches."""
        if not self._source.held:
            self._source.fetch(self._outgoing)
            self._outgoing = []
        return self._source.take()

    def _ask_now(self) -> None:
        """Sends results, and takes the rows that came while the last step ran."""
        self._collect()
        self._prepare()
        replies = self._connection.send([*self._outgoing, *self._asked])
        self._outgoing = []
        self._accept(replies)

    def _post(self, asks: bool) -> None:
        """Sends what is left of results; may ask the same, and the replies come during the next step."""
        if asks:
            self._prepare()
        self._talked = time.monotonic()
        self._connection.post([*self._outgoing, *self._asked])
        self._outgoing = []

    def _collect(self) -> None:
        """Takes the replies that came while the last step ran."""
        if self._asked:
            self._accept(self._connection.collect())

    def _accept(self, replies: list[RedisReply]) -> None:
        answers, self._asked = replies[len(replies) - len(self._asked) :], []
        looks = len(self._lanes)
        self._drop_gone(answers[:looks])
        self._source.accept(answers[looks:])

    def _newcomers(self) -> list[Request]:
        """Rows that came meanwhile, as many as there is room for."""
        return self._source.take_now(self._model.batch_size - len(self._live)) if self._takes_more else []

    @property
    def _takes_more(self) -> bool:
        return not self._draining or self._seat is not None

    def _drop_gone(self, pending: list[RedisReply]) -> None:
        """Rows whose entries are gone were cancelled, or taken over."""
        for lane, entries in zip(self._lanes, pending, strict=True):
            held = {entry for entry, *_ in checked(entries)}
            gone = [
                row for row in self._live if row.request.ref.lane == lane and row.request.entry not in held
            ]
            if gone:
                self._live = [row for row in self._live if row not in gone]
                self._has_lost = True

    def _drop_late(self) -> None:
        """Rows whose deadline has passed leave. A client that has had parts is cut off."""
        now_ms = int(time.time() * 1000)
        late = [row for row in self._live if row.request.deadline and int(row.request.deadline) < now_ms]
        if late:
            replies = [Reply(row.request.id, LATE.status, LATE.body(), JSON_HEADERS) for row in late]
            self._outgoing += self._finals(zip(late, replies, strict=True))
            self._live = [row for row in self._live if row not in late]
            self._has_lost = True
            (self._board.count if self._live else self._board.end)(len(late))

    def _welcome(self, rows: list[Request]) -> bool:
        """Makes rows live; returns whether the live rows are others than before."""
        changed, self._has_lost = self._has_lost, False
        if not rows:
            return changed
        now_ms = int(time.time() * 1000)
        rows, late = split_late(rows, now_ms)
        if late:
            self._outgoing += self._publisher.expire(late)
        for row in rows:
            joined = self._call.join(row, now_ms)
            if isinstance(joined, Reply):
                self._outgoing += self._publisher.commands([(row, joined)], now_ms)
            else:
                self._live.append(joined)
        if rows:
            self._collector.batch(rows, now_ms, 0.0, time.time())
        return True

    def _prepare(self) -> None:
        """The commands that ask which rows were cancelled, and for new ones."""
        room = self._model.batch_size - len(self._live)
        self._lanes = list(dict.fromkeys(row.request.ref.lane for row in self._live))
        looks: list[Command] = [
            ("XPENDING", lane, keys.GROUP, "-", "+", MOST_PENDING, self._consumer) for lane in self._lanes
        ]
        self._asked = [*looks, *(self._source.ask(room) if self._takes_more else ())]

    def _run_step(self) -> None:
        began = time.monotonic()
        replies = self._call.step(self._live)
        self._step_s = time.monotonic() - began
        answers = list(zip(self._live, replies, strict=True))
        if parts := [(row.request, reply) for row, reply in answers if reply.more]:
            self._outgoing += self._publisher.parts(parts)
        ended = [(row, reply) for row, reply in answers if not reply.more]
        if ended:
            self._live = [row for row, reply in answers if reply.more]
            self._has_lost = True
            self._outgoing += self._finals(ended)
            if self._live:
                self._board.count(len(ended))
            else:
                self._board.end(len(ended))

    def _finals(self, ended: Iterable[tuple[LiveRow, Reply]]) -> list[Command]:
        by_start: defaultdict[int, list[tuple[Request, Reply]]] = defaultdict(list)
        for row, reply in ended:
            by_start[row.started_ms].append((row.request, reply))
        return [
            command
            for started_ms, answers in by_start.items()
            for command in self._publisher.commands(answers, started_ms)
        ]

    def _may_end(self) -> bool:
        """Live rows get their answers."""
        return not self._live and super()._may_end()

    @property
    def _goes_on(self) -> bool:
        return bool(self._live) or super()._goes_on

    def _resume(self) -> None:
        """Live rows go on; only rows that were delivered and not received are taken up."""
        if self._seat:  # requests in the lanes that a limit refuses
            requeue(self._connection, self._model, self._consumer, self._model.max_attempts)
        self._source.adopt([row.request.ref for row in self._live])

    def _unsent(self) -> list[Command]:
        """Without the questions, whose answers would come too late."""
        asked, self._asked, self._lanes = self._asked, [], []
        return [command for command in super()._unsent() if command not in asked]
