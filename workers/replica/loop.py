"""The replica process: one loaded handler, pinned to one device, serving its lanes until SIGTERM.

Started as `python -m workers.replica` by its pool, with a ReplicaSpec in the environment.
"""

import contextlib
import logging
import os
import signal
import time
from types import FrameType

import redis

from marq.admission.seats import Seat
from marq.admission.sequences import SequencePublisher
from marq.connections.background import Sender
from marq.connections.blocking import Connection
from marq.connections.urls import RECONNECT_DELAY_S, Command
from marq.queue.entries import Request
from marq.queue.publishing import NEVER, Answer, Publisher
from marq.queue.redelivery import requeue
from marq.registry.consumers import consumer_name
from workers import scoreboard
from workers.handler.call import HandlerCall
from workers.handler.measurements import Collector
from workers.handler.transfers import Transfers
from workers.launch import ReplicaSpec
from workers.replica import children
from workers.replica.late_rows import split_late
from workers.replica.leaving import Leaving
from workers.replica.policies.choosing import batcher_for
from workers.replica.seat_reader import SeatReader
from workers.replica.source import BatchSource
from workers.replica.streaming import PartSender

log = logging.getLogger(__name__)

PUBLISH_WITHIN_S = (
    0.001  # the longest wait of a result for those of the batches that were fetched with its own
)
# Small batches are answered together, up to this many rows: a gateway that gets more at once lets the
# replica wait until it has answered all of them.
MOST_ANSWERED_AT_ONCE = 32


class Drain(BaseException):
    """Raised by SIGTERM while the replica waits for requests. No Exception: handlers must not catch it."""


def make_publisher(spec: ReplicaSpec) -> Publisher:
    """The publisher of a replica; with sequences, it also notes their activity."""
    pool = spec.pool
    if pool.model.sequence_batching:
        return SequencePublisher(
            pool.model, spec.device, pool.job_result_ttl_ms, pool.place, pool.sequence_headers[2]
        )
    return Publisher(pool.model, spec.device, pool.job_result_ttl_ms, pool.place)


class Replica:
    """Takes batches, runs them, publishes the results, until drained."""

    def __init__(
        self, spec: ReplicaSpec, call: HandlerCall, board: scoreboard.Scoreboard, collector: Collector
    ) -> None:
        self._model = spec.pool.model
        self._collector = collector
        self._call, self._board = call, board
        self._consumer = consumer_name(spec.pool.name, spec.slot, os.getpid())
        self._connection = Connection(spec.pool.redis_url)
        self._seat = Seat(self._connection, self._model, self._consumer) if self._model.has_seats else None
        self._publisher = make_publisher(spec)
        self._outgoing: list[Command] = []
        # Of predictions and nodes of workflows: their commands are made with the next write.
        self._answers: list[Answer] = []
        self._started_ms = NEVER  # the last batch of them
        self._draining = self._blocked = False
        self._leaving: Leaving | None = None  # from the moment when it was asked to end
        self._transfers = Transfers.of(spec.pool)
        self._sender = Sender(spec.pool.redis_url)
        call.part_sink = PartSender(self._sender, self._publisher, lambda _: board.touch())
        call.row_limit.on_change = board.limit_rows
        self._finished = 0.0  # when the oldest unpublished result was ready
        self._source: BatchSource = batcher_for(
            self._connection, self._model, self._consumer, self._note_blocked, place=spec.pool.place,
            reader=self._seat_reader(spec) if self._model.sequence_batching else None,
        )  # fmt: skip

    def _seat_reader(self, spec: ReplicaSpec) -> SeatReader:
        return SeatReader(
            self._connection, self._model, self._consumer, time, self._note_blocked,
            spec.pool.job_result_ttl_ms,
        )  # fmt: skip

    def run(self) -> None:
        """Returns when drained: all results are published. The pool puts the fetched rows back."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        children.note_sigterm()
        if self._seat:
            self._seat.open()
        self._board.enter(scoreboard.READY)
        while True:
            try:
                if self._draining and self._may_end():
                    self._connection.send(self._ready())
                    break
                with contextlib.suppress(Drain):
                    self._step()
            except redis.RedisError as error:
                log.warning("Redis failed, reconnecting until it answers: %s", error)
                self._reconnect()
        self._board.enter(scoreboard.DRAINING)
        try:
            self._connection.send(self._collector.flush())
        except redis.RedisError as error:
            log.warning("the last metrics are lost, because Redis failed: %s", error)

    def _ready(self) -> list[Command]:
        """All commands that are due: those of many small batches answer and acknowledge in one go."""
        if self._answers:
            answers, self._answers = self._answers, []
            self._outgoing += self._publisher.commands(answers, self._started_ms)
        return self._outgoing

    def _step(self) -> None:
        """Runs one batch. Its results leave with the next fetch, or alone if that is not due soon."""
        self._outgoing += self._collector.due(time.time())
        if not self._source.held:
            self._source.fetch(self._ready())
            self._outgoing = []
        elif self._source.prefetched:
            self._connection.post(self._ready())
            self._outgoing = []
        elif max(self._source.handler_s, time.monotonic() - self._finished) > PUBLISH_WITHIN_S:
            self._source.refresh(self._ready())
            self._outgoing = []
        began = time.monotonic()
        batch = self._source.take()
        waited_s = time.monotonic() - began
        if batch and batch[0].attempts != b"0" and self._ready():
            # The row may end this process again: what is done must not wait for it, nor run again.
            self._connection.send(self._outgoing)
            self._outgoing = []
        # Recorded first, so that a row that crashes this process is charged an attempt.
        self._board.begin(batch)
        now_ms = int(time.time() * 1000)
        batch, late = split_late(batch, now_ms)
        if late:
            self._outgoing += self._publisher.expire(late)
        if batch:
            self._run_batch(batch, now_ms, waited_s)
        elif late:
            self._board.begin([])

    def _run_batch(self, batch: list[Request], started_ms: int, waited_s: float) -> None:
        replies = self._source.run_handler(lambda: self._transfers.run(batch, self._call.run))
        self._sender.settle()
        if not (self._outgoing or self._answers):
            self._finished = time.monotonic()
        answers = list(zip(batch, replies, strict=True))
        kept = any(request.job or request.run for request in batch)
        if kept and any(request.job for request in batch):
            self._outgoing += self._publisher.commands(answers, started_ms)
        else:
            self._answers += answers
            self._started_ms = started_ms
            if len(self._answers) >= MOST_ANSWERED_AT_ONCE:
                self._ready()
        self._board.end(len(batch))
        self._collector.batch(batch, started_ms, waited_s, time.time())
        if kept and self._source.held and len(batch) >= MOST_ANSWERED_AT_ONCE:
            self._connection.post(self._ready())  # Redis ends these jobs while the next ones run
            self._outgoing = []
        self._source.raise_failure()

    def _may_end(self) -> bool:
        """Whether a replica that was asked to end may do so. Open sequences keep it for a while."""
        if self._leaving is None:
            self._leaving = Leaving(self._connection, self._model, self._seat)
            if self._seat:  # it goes on, maybe after a wait that was broken off
                self._connection.close()
                self._outgoing = self._unsent()
        return self._leaving.is_over()

    def _note_blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        if blocked:
            self._outgoing = []  # all of it has been confirmed
            if self._draining and self._leaving is None:
                raise Drain

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._draining = True
        if self._blocked and self._leaving is None:
            raise Drain

    def _reconnect(self) -> None:
        """Waits for Redis; sends the unconfirmed commands again and moves the fetched rows back.

        Sending twice is harmless: a job's result is fenced by its entry, a prediction's reply is taken once.
        """
        self._blocked = False
        self._connection.close()
        self._outgoing = self._unsent()
        while self._goes_on:
            time.sleep(RECONNECT_DELAY_S)
            try:
                self._connection.send(self._outgoing)
                self._outgoing = []
                if not self._goes_on:
                    return  # its pool puts the fetched rows back
                if self._seat:
                    self._seat.open()
                self._resume()
                return
            except redis.RedisError as error:
                log.debug("no connection to Redis yet, trying again: %s", error)

    @property
    def _goes_on(self) -> bool:
        """Whether a replica without Redis waits for it; one that was asked to end does so for its results.

        Its pool ends that wait.
        """
        return not self._draining or bool(self._outgoing)

    def _unsent(self) -> list[Command]:
        """The commands that must be sent over a new connection."""
        unconfirmed, self._connection.unconfirmed = self._connection.unconfirmed, []
        return unconfirmed + self._ready()

    def _resume(self) -> None:
        """No row runs: all that were delivered go back, but for those of its own seat."""
        requeue(self._connection, self._model, self._consumer, self._model.max_attempts)
        self._source.reset()
        if self._model.sequence_batching:
            self._source.adopt(())
