"""Puts back what a lost replica held, and answers what has been tried too often."""

import logging
import os
import time
from dataclasses import replace
from typing import Any

from marq import keys, scripts
from marq.burial import Death, bury
from marq.connection import Connection
from marq.errors import MalformedEntry, ServiceUnavailable
from marq.message import Reply, decode
from marq.registry import HEARTBEAT_LIMIT_S, Registry
from workers.publisher import Publisher
from workers.runtime import responses
from workers.scoreboard import Scoreboard
from workers.specs import PoolSpec, consumer_name, pool_of, scoreboard_path

log = logging.getLogger(__name__)

KILLED_FOR_MEMORY = "exit code 137"  # as containers tell it
MOST_REFUSED = 100  # of each lane at a time
SILENCE_S = HEARTBEAT_LIMIT_S / 2  # after so long without a look, Redis or this host was away


class Recovery:
    """Redelivery for one model version."""

    def __init__(self, pool: PoolSpec, registry: Registry) -> None:
        self._model, self._pool_name, self._registry = pool.model, pool.name, registry
        self._connection = Connection(pool.redis_url)
        self._lanes = keys.lanes(self._model.name, self._model.version)
        self._ttl_ms = pool.job_result_ttl_ms
        self._run_dir = pool.run_dir
        self._looked, self._judging_from = time.monotonic(), 0.0

    def requeue(self, consumer: str, running: list[str], device: str, reason: str) -> None:
        """Moves all that the consumer held to the front. Raises redis.RedisError.

        `running` are `LANE ENTRY`, as a scoreboard tells them.

        What was being run has one more attempt behind it; after the last it is answered with 500
        `Worker died.` and goes to the dead letters with the reason.
        """
        spent = self._connection.run(
            scripts.REQUEUE, [self._lanes[0], *self._lanes], keys.GROUP, consumer,
            self._model.max_attempts, keys.job(self._model.name, ""), *running,
        )  # fmt: skip
        for lane, entry, attempts, fields in spent:
            self._give_up(lane.decode(), entry, attempts, fields, device, reason)

    def requeue_lost(self, alive: set[str]) -> None:
        """Does the same for consumers whose pool is not heard of any more, and for this pool's old ones."""
        lost = self._consumers() - alive
        heard = self._registry.live_reports(self._model) if lost else {}
        may_judge = self._may_judge()
        for consumer in lost:
            pool = pool_of(consumer)
            if pool == self._pool_name or (may_judge and pool not in heard):
                log.warning("putting back what the lost replica %s held", consumer)
                self.requeue(consumer, self._running(consumer), "unknown", "its host or pool was lost")

    def refuse_waiting(self, reason: str) -> None:
        """Answers what waits with 503, for a model that cannot be loaded. Raises redis.RedisError."""
        consumer, lanes = consumer_name(self._pool_name, 0, os.getpid()), self._lanes
        read = ("XREADGROUP", "GROUP", keys.GROUP, consumer, "COUNT", MOST_REFUSED, "STREAMS", *lanes)
        for lane, entries in self._connection.execute(*read, *(">" for _ in lanes)) or ():
            for entry, fields in entries:
                self._refuse(lane.decode(), entry, fields, reason)

    def _refuse(self, lane: str, entry: bytes, fields: list[bytes], reason: str) -> None:
        try:
            request = decode(lane, entry, fields)
        except MalformedEntry as error:
            self._connection.pipeline(bury(self._model, lane, entry, Death(error.reason)))
            return
        replies = responses.failures([request], 503, reason, ServiceUnavailable.type)
        publisher = Publisher(self._model, "", self._ttl_ms)
        self._connection.load_scripts()
        self._connection.pipeline(publisher.commands([(request, replies[0])], int(time.time() * 1000)))

    def _consumers(self) -> set[str]:
        found: set[str] = set()
        for lane in self._lanes:
            for consumer in self._registry.redis.xinfo_consumers(lane, keys.GROUP):
                found.add(consumer["name"].decode())
        return found

    def _running(self, consumer: str) -> list[str]:
        """What a consumer was running: by its scoreboard if it was this host's, else all that it held."""
        pool, _, slot = consumer.rpartition("/")[0].rpartition("/")
        if pool == self._pool_name and slot.isdigit():
            board = scoreboard_path(self._run_dir, pool, int(slot))
            if board.is_file():
                return Scoreboard(board).running
        return [
            f"{lane} {item['message_id'].decode()}"
            for lane in self._lanes
            for item in self._registry.redis.xpending_range(lane, keys.GROUP, "-", "+", 10_000, consumer)
        ]

    def _may_judge(self) -> bool:
        """Whether other pools have had the time to report: not while Redis was away."""
        now = time.monotonic()
        if now - self._looked > SILENCE_S:
            self._judging_from = now + HEARTBEAT_LIMIT_S
        self._looked = now
        return now >= self._judging_from

    def _give_up(
        self, lane: str, entry: bytes, attempts: int, fields: list[bytes], device: str, reason: str
    ) -> None:
        death = _death(attempts, device, reason)
        commands: list[Any] = []
        try:
            request = decode(lane, entry, fields)
            request.attempts = b"%d" % (attempts - 1)
            status = 507 if death.ending == KILLED_FOR_MEMORY else 500
            reply: Reply = responses.failures([request], status, "Worker died.")[0]
            log.error("request %s %s\n%s", request.id.decode(), death.reason, death.log)
            publisher = Publisher(self._model, device, self._ttl_ms)
            commands += publisher.commands([(request, reply)], request.queued_ms)
        except MalformedEntry as error:
            death = replace(death, reason=error.reason)
        self._connection.load_scripts()
        buried = bury(self._model, lane, entry, death, acknowledge=not commands)
        # A transaction: whoever dies meanwhile leaves neither a letter without an answer, nor the reverse.
        *_, done = self._connection.pipeline([("MULTI",), *buried, *commands, ("EXEC",)])
        if isinstance(done, Exception):
            raise done


def _death(attempts: int, device: str, reason: str) -> Death:
    """Reads what a pool tells of a replica's end: one line that says how, then what was printed last."""
    told, *printed = reason.split("\n")
    ending = told.partition(" ended with ")[2]
    if printed and "response time-out" in printed[-1]:  # the pool's own last word, before it killed it
        told, ending = printed.pop(), "response time-out"
    return Death(f"given up after {attempts} attempts: {told}", attempts, device, ending, "\n".join(printed))
