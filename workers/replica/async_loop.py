"""The main loop of a replica whose handler is a coroutine function (`asyncCommunication: true`).

A thread takes batches and hands them to the event loop, where many run at a time. Their answers and parts
leave through one sender, in order.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import redis

from marq.connections.background import Sender
from marq.connections.blocking import Connection
from marq.connections.urls import RECONNECT_DELAY_S
from marq.errors import ServiceError
from marq.queue.entries import EntryRef, Request
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply
from marq.registry.consumers import consumer_name
from workers import scoreboard
from workers.handler import replies as responses
from workers.handler.call import HandlerCall
from workers.handler.measurements import Collector
from workers.handler.transfers import Transfers
from workers.launch import BATCHES_IN_FLIGHT, ReplicaSpec
from workers.replica import children
from workers.replica.late_rows import split_late
from workers.replica.policies.choosing import batcher_for
from workers.replica.source import BatchSource
from workers.replica.streaming import PartSender

log = logging.getLogger(__name__)

LOOK_UP_S = 0.5  # poll interval of the feeder (is the replica draining?) and of the watcher


class Running(NamedTuple):
    """A row that the handler has, and when it last gave a sign of life (monotonic s)."""

    row: Request
    since: float


class AsyncReplica:
    """Takes batches, runs up to BATCHES_IN_FLIGHT of them at a time, publishes the results, until drained."""

    def __init__(
        self,
        spec: ReplicaSpec,
        call: HandlerCall,
        board: scoreboard.Scoreboard,
        loop: asyncio.AbstractEventLoop,
        collector: Collector,
    ) -> None:
        self._collector = collector
        model = spec.pool.model
        self._call, self._board, self._loop, self._model = call, board, loop, model
        self._connection = Connection(spec.pool.redis_url)
        self._publisher = Publisher(model, spec.device, spec.pool.job_result_ttl_ms, spec.pool.place)
        self._transfers = Transfers.of(spec.pool)
        self._sender = Sender(spec.pool.redis_url)
        self._source: BatchSource = batcher_for(
            self._connection,
            model,
            consumer_name(spec.pool.name, spec.slot, os.getpid()),
            place=spec.pool.place,
        )
        self._room = threading.Semaphore(BATCHES_IN_FLIGHT)
        self._running: dict[EntryRef, Running] = {}
        self._draining = threading.Event()
        self._ended = asyncio.Event()
        self._failed = False
        self._taken: list[Request] = []  # by the feeder, most recently
        call.part_sink = PartSender(self._sender, self._publisher, self._renew)
        call.row_limit.on_change = board.limit_rows

    def run(self) -> None:
        """Returns when drained: all results are published. The pool puts the fetched rows back.

        Exits with code 1 if the feeder failed: the batch that it took last counts as the cause.
        """
        self._loop.add_signal_handler(signal.SIGTERM, self._draining.set)
        children.note_sigterm()
        self._board.enter(scoreboard.READY)
        threading.Thread(target=self._feed, name="feeder", daemon=True).start()
        self._loop.run_until_complete(self._watch())
        self._board.enter(scoreboard.DRAINING)
        self._sender.send(self._collector.flush())
        self._sender.settle()
        if self._failed:
            self._board.begin(self._taken)
            sys.exit(1)

    async def _watch(self) -> None:
        """Keeps the scoreboard up to date until drained. The pool notices when a blocked loop does not."""
        while not self._ended.is_set() or self._running:
            self._note_running()
            if commands := self._collector.due(time.time()):
                self._sender.send(list(commands))
            await asyncio.sleep(LOOK_UP_S if not self._draining.is_set() else LOOK_UP_S / 10)

    def _feed(self) -> None:
        """The feeder's thread."""
        while not self._draining.is_set():
            try:
                if self._room.acquire(timeout=LOOK_UP_S):
                    self._start_batch()
            except redis.RedisError as error:
                log.warning("Redis failed, reconnecting until it answers: %s", error)
                self._room.release()
                self._reconnect()
            except Exception:  # this process takes no more requests: a new one can
                log.exception("taking requests failed: the replica ends after the running batches")
                self._failed = True
                self._draining.set()
        self._loop.call_soon_threadsafe(self._ended.set)

    def _start_batch(self) -> None:
        if not self._source.held:
            self._source.fetch([])
        began = time.monotonic()
        self._taken = batch = self._source.take()
        waited_s = time.monotonic() - began
        now_ms = int(time.time() * 1000)
        batch, late = split_late(batch, now_ms)
        if late:
            self._sender.send(self._publisher.expire(late))
        if batch:
            self._sign(batch)
            asyncio.run_coroutine_threadsafe(self._answer(batch, now_ms, waited_s), self._loop)
        else:
            self._room.release()

    def _reconnect(self) -> None:
        self._connection.close()
        while not self._draining.is_set():
            time.sleep(RECONNECT_DELAY_S)
            try:
                self._connection.execute("PING")
                self._sender.settle()  # answered entries are no longer pending then
                self._source.adopt(list(self._running))
            except redis.RedisError as error:
                log.debug("no connection to Redis yet, trying again: %s", error)
            else:
                return

    async def _answer(self, batch: list[Request], started_ms: int, waited_s: float) -> None:
        """Runs in the event loop."""
        self._note_running()
        try:
            replies = await self._replies(batch)
            self._collector.batch(batch, started_ms, waited_s, time.time())
            answers = list(zip(batch, replies, strict=True))
            self._sender.send(self._publisher.commands(answers, started_ms))
        finally:
            for request in batch:
                del self._running[request.ref]
            self._board.count(len(batch))
            self._note_running()
            self._room.release()

    async def _replies(self, batch: list[Request]) -> list[Reply]:
        """Never raises: a request without a reply would be pending for ever, as its replica lives."""
        try:
            return await self._transfers.run_async(
                batch, lambda rows: self._call.run_async(rows, self._model.response_timeout_s)
            )
        except Exception:
            log.exception("a batch of %d fails with 503", len(batch))
            return responses.failures(batch, 503, "Prediction failed", ServiceError.type)

    def _renew(self, requests: Sequence[Request]) -> None:
        """Parts may come from a handler's own thread after its batch has ended."""
        self._sign([request for request in requests if request.ref in self._running])

    def _sign(self, batch: list[Request]) -> None:
        """Notes a sign of life of these rows."""
        now = time.monotonic()
        for request in batch:
            self._running[request.ref] = Running(request, now)

    def _note_running(self) -> None:
        running = list(self._running.values())
        self._board.begin([row for row, _ in running], min((since for _, since in running), default=None))
