"""Tasks whose results are not written yet: a hash in marq's Redis, so that a killed bridge forgets none."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from marq import keys
from marq.connections.blocking import Connection
from marq.connections.scripts import read
from marq.queue.ids import JobId
from marq.queue.job_records import JobRecord, parse_record

SETTLE = read("bridge", "settle")
WRITTEN = b"celery"  # a field of a job's record: its result is written


class WaitingTasks:
    """The tasks of one queue by their ids, each with its request. Raises redis.RedisError."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self._connection, self._key = connection, keys.bridge(queue, "waiting")

    def add_command(self, contexts: Mapping[str, bytes]) -> tuple[object, ...]:
        """The command that adds tasks: it goes before the submission of their jobs."""
        return ("HSET", self._key, *(part for pair in contexts.items() for part in pair))

    def count(self) -> int:
        return int(self._connection.execute("HLEN", self._key))

    def find(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The requests of those among these tasks that wait."""
        found = self._connection.execute("HMGET", self._key, *ids)
        return {name: json.loads(text) for name, text in zip(ids, found, strict=True) if text is not None}

    def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Some ids, and the cursor of the next look; 0 after the last."""
        following, flat = self._connection.execute("HSCAN", self._key, cursor, "COUNT", count)
        return int(following), [name.decode() for name in flat[::2]]

    def records(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[JobRecord, bool] | None]:
        """The job of each task, and whether its result is written; None where no record exists."""
        jobs = {name: JobId(request["model"], name) for name, request in requests.items()}
        stored = self._pipeline([("HGETALL", keys.job(job.model, job.request_id)) for job in jobs.values()])
        found: dict[str, tuple[JobRecord, bool] | None] = {}
        for (name, job), flat in zip(jobs.items(), stored, strict=True):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            found[name] = (self._parse(job, fields), WRITTEN in fields) if b"state" in fields else None
        return found

    def settle(self, requests: Mapping[str, Mapping[str, Any]]) -> None:
        """Forgets tasks whose results are written."""
        records = [keys.job(request["model"], name) for name, request in requests.items()]
        self._connection.run(SETTLE, [self._key, *records], *requests)

    def _parse(self, job: JobId, fields: dict[bytes, bytes]) -> JobRecord:
        if b"streamed" not in fields:
            return parse_record(job, fields)
        head, *parts = self._connection.execute("LRANGE", keys.parts(job.model, job.request_id), 0, -1) or [
            b""
        ]
        return parse_record(job, fields, None, head, parts)

    def _pipeline(self, commands: Iterable[tuple[object, ...]]) -> list[Any]:
        replies = self._connection.pipeline(list(commands))
        for reply in replies:
            if isinstance(reply, redis.RedisError):
                raise reply
        return replies


class RevokedTasks:
    """Ids of tasks that were revoked, for as long as Celery's workers remember them."""

    KEPT_S = 10_800

    def __init__(self, connection: Connection, queue: str) -> None:
        self._connection, self._key = connection, keys.bridge(queue, "revoked")

    def add(self, ids: Sequence[str], now: float) -> None:
        pairs = (part for name in ids for part in (now, name))
        self._connection.pipeline(
            [
                ("ZADD", self._key, *pairs),
                ("ZREMRANGEBYSCORE", self._key, "-inf", now - self.KEPT_S),
                ("EXPIRE", self._key, self.KEPT_S),
            ]
        )

    def among(self, ids: Sequence[str]) -> set[str]:
        """Those of these tasks that are revoked."""
        if not ids:
            return set()
        scores = self._connection.execute("ZMSCORE", self._key, *ids)
        return {name for name, score in zip(ids, scores, strict=True) if score is not None}
