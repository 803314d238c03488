"""Revokes tasks: those that wait in the broker, and those whose jobs wait or run."""

import time
from collections.abc import Sequence

from bridge.waiting import RevokedTasks, WaitingTasks
from marq import keys
from marq.connections.blocking import Connection
from marq.queue import scripts
from marq.queue.entries import DEFAULT_TTL_MS

ATTEMPTS = 5  # a job may move to another lane meanwhile


class Revoker:
    """Revokes tasks of one queue. For one thread. Raises redis.RedisError."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self._connection = connection
        self._waiting = WaitingTasks(connection, queue)
        self._revoked = RevokedTasks(connection, queue)

    def revoke(self, ids: Sequence[str], terminate: bool = False) -> None:
        """Tasks that have not started do not run; `terminate`: the results of those that run are dropped."""
        if ids:
            self._revoked.add(ids, time.time())  # first: the intake looks after it has queued them
            self.cancel(ids, terminate)

    def cancel(self, ids: Sequence[str], terminate: bool = False) -> None:
        """The same for tasks that are jobs already."""
        for name, request in self._waiting.find(ids).items():
            for _ in range(ATTEMPTS):
                if self._cancel(request["model"], name, terminate) is not None:
                    break

    def _cancel(self, model: str, name: str, terminate: bool) -> object:
        """None if the job has moved to another lane, or is unknown."""
        record = keys.job(model, name)
        lane = self._connection.execute("HGET", record, "lane")
        return self._connection.run(
            scripts.CANCEL, [record, (lane or b"").decode()], keys.GROUP, name, int(time.time() * 1000),
            DEFAULT_TTL_MS, keys.finished(model), 0 if terminate else 1,
        )  # fmt: skip
