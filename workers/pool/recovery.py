"""Puts the entries of a lost replica back, and answers those that have had their last attempt."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import redis

from marq import keys
from marq.admission import seats
from marq.connections.blocking import Connection
from marq.connections.urls import Command
from marq.errors import MalformedEntry, ServiceUnavailable
from marq.payloads import job_files
from marq.payloads.files import PayloadLost
from marq.queue.entries import EntryRef, Request, decode
from marq.queue.giving_up import Death, bury, refusals, refuse, take
from marq.queue.publishing import Publisher
from marq.queue.redelivery import Spent, requeue
from marq.queue.replies.entries import Reply
from marq.registry import lanes
from marq.registry.consumers import consumer_name, pool_of
from marq.registry.liveness import TakeoverGuard
from marq.registry.models import Registry
from workers.handler import replies as responses
from workers.launch import PoolSpec
from workers.pool.replica_process import RESPONSE_TIMEOUT, Ending
from workers.scoreboard import Scoreboard, path_of, remove_if

log = logging.getLogger(__name__)

KILLED_FOR_MEMORY = "exit code 137"  # as a container reports SIGKILL
SEQUENCE_ENDED = "The sequence has ended, because {}. The next request with its id begins a new one."
LOST = Ending("its host or pool was lost")


class Recovery:
    """Redelivery for one model version."""

    def __init__(
        self, pool: PoolSpec, registry: Registry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model, self._pool_name, self._registry = pool.model, pool.name, registry
        self._connection = Connection(pool.redis_url)
        self._lanes = keys.lanes(self._model.name, self._model.version)
        self._ttl_ms = pool.job_result_ttl_ms
        self._run_dir, self._place = Path(pool.run_dir), pool.place
        self._guard = TakeoverGuard(clock)
        self._own = consumer_name(pool.name, 0, os.getpid())  # the consumer of refused entries

    def requeue(self, consumer: str, running: list[EntryRef], device: str, ending: Ending) -> None:
        """Moves all entries that the consumer held to the front. Raises redis.RedisError.

        Each entry of `running` has used one more attempt. After the last that the registry allows now, it is
        answered with 500 `Worker died.` and becomes a dead letter that says how the replica ended. One that
        ran alone and exceeded the response time-out has no other attempt: it would be as late again.
        """
        if self._model.has_seats:
            self._end_sequences(consumer, running, device, ending)
        was_late_alone = ending.cause == RESPONSE_TIMEOUT and len(running) == 1
        most_attempts = 1 if was_late_alone else self._registry.current(self._model).max_attempts
        try:
            all_spent = requeue(self._connection, self._model, consumer, most_attempts, running)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return  # the lanes are gone, and with them all that it held
        for spent in all_spent:
            self._give_up(spent, device, ending)

    def _end_sequences(
        self, consumer: str, running: list[EntryRef], device: str, ending: Ending
    ) -> None:  # fmt: skip
        """Answers the requests of the sequences that the replica had: no other replica can continue them."""
        lane = seats.lane_of(self._model, consumer)
        while entries := seats.end(self._connection, self._model, consumer, self._own):
            for entry, fields in entries:
                if EntryRef(lane.encode(), entry) in running:
                    self._give_up(Spent(lane, entry, 1, fields), device, ending)
                else:
                    error = ServiceUnavailable(SEQUENCE_ENDED.format(ending.line))
                    answers = refusals(self._model, lane, [(entry, fields)], error, self._ttl_ms)
                    self._connection.pipeline(answers)

    def requeue_lost(self, alive: set[str]) -> None:
        """Does the same for the consumers of lost pools, and for the former replicas of this pool."""
        lost = self._consumers() - alive
        heard = self._registry.live_reports(self._model) if lost else {}
        may_take_over = self._guard.may_take_over()
        for consumer in lost:
            pool = pool_of(consumer)
            if pool == self._pool_name or (may_take_over and pool not in heard):
                if consumer != self._own:  # it holds entries only if Redis was lost in between
                    log.warning("the replica %s is lost: its entries go back to the queue", consumer)
                self.requeue(consumer, self._running(consumer), "unknown", LOST)

    def forget_lost(self) -> None:
        """Removes the scoreboards of former replicas, whose entries are back in the queue."""
        remove_if(self._run_dir, self._pool_name.__eq__)

    def refuse_waiting(self, reason: str) -> None:
        """Answers queued requests with 503, for a model that cannot be loaded. Raises redis.RedisError."""
        error = ServiceUnavailable(reason)
        for lane in self._lanes:
            if entries := take(self._registry.redis, lane, self._own):
                self._connection.pipeline(refusals(self._model, lane, entries, error, self._ttl_ms))

    def _consumers(self) -> set[str]:
        """The consumers of all lanes. Deleted lanes are created again."""
        found: set[str] = set()
        if self._model.has_seats:
            owners = keys.seat_owners(self._model.name, self._model.version)
            found |= {owner.decode() for owner in self._registry.redis.hgetall(owners).values()}
        try:
            for lane in self._lanes:
                for consumer in self._registry.redis.xinfo_consumers(lane, keys.GROUP):
                    found.add(consumer["name"].decode())
        except redis.ResponseError:
            if not self._registry.has(self._model):
                raise
            lanes.create(self._registry.redis, self._model)
        return found

    def _running(self, consumer: str) -> list[EntryRef]:
        """The entries that a consumer was running: by its scoreboard on this host, else all that it held."""
        pool, _, slot = consumer.rpartition("/")[0].rpartition("/")
        if pool == self._pool_name and slot.isdigit():
            board = Scoreboard.read(path_of(self._run_dir, pool, int(slot)))
            if board:
                return board.running
        return [
            EntryRef(lane.encode(), item["message_id"])
            for lane in (*self._lanes, *self._seat_lanes(consumer))
            for item in self._registry.redis.xpending_range(lane, keys.GROUP, "-", "+", 10_000, consumer)
        ]

    def _seat_lanes(self, consumer: str) -> list[str]:
        """The lane of its seat, if there is one: without its group, Redis refuses to look at it."""
        lane = seats.lane_of(self._model, consumer)
        return [lane] if self._model.has_seats and self._registry.redis.exists(lane) else []

    def _give_up(self, spent: Spent, device: str, ending: Ending) -> None:
        attempts = "1 attempt" if spent.attempts == 1 else f"{spent.attempts} attempts"
        reason = f"given up after {attempts}: {ending.overdue or ending.line}"
        death = Death(reason, spent.attempts, device, ending.cause, "\n".join(ending.printed))
        try:
            request = decode(spent.lane, spent.entry, spent.fields)
            commands = self._answer_and_bury(request, death, _message(ending))
        except MalformedEntry as error:
            commands = refuse(self._model, spent.lane, spent.entry, error, death)
        # One transaction: if this process dies, there is neither a letter without an answer, nor the reverse.
        self._connection.transaction(commands)

    def _answer_and_bury(self, request: Request, death: Death, message: str) -> list[Command]:
        request.attempts = b"%d" % (death.attempts - 1)
        status = 507 if death.ending == KILLED_FOR_MEMORY else 500
        reply: Reply = responses.failures([request], status, message)[0]
        log.error("request %s: %s\n%s", request.id.decode(), death.reason, death.log)
        publisher = Publisher(self._model, death.device, self._ttl_ms)
        return [
            *bury(self._model, request.lane, request.entry, death, False, self._body(request)),
            *publisher.commands([(request, reply)], request.queued_ms, is_buried=True),
        ]

    def _body(self, request: Request) -> bytes:
        """The body of a request that is a file. Empty if there is none, if it is lost with its client, or if
        it is that of a job, which outlives the request; the files of a run end with it."""
        if not request.body_ref or (job_files.is_ref(request.body_ref) and not request.run):
            return b""
        try:
            return bytes(self._place.load(request.body_ref)) if self._place else b""
        except PayloadLost:
            return b""


def _message(ending: Ending) -> str:
    """TorchServe's text, and on the next line which time-out has passed, if one has."""
    reason = f"\n{ending.overdue[0].upper()}{ending.overdue[1:]}." if ending.overdue else ""
    return f"Worker died.{reason}"
