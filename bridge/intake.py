"""Takes tasks from the broker and queues them as jobs."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from celery.exceptions import TaskRevokedError

from bridge.known_models import KnownModels
from bridge.messages import Junk, Message, Refused, Task
from bridge.outcomes import of_error
from bridge.predictions import Prediction, prepare, submissions
from bridge.results import Ended, Results
from bridge.revoking import Revoker
from bridge.sources.source import Source
from bridge.waiting import RevokedTasks, WaitingTasks
from marq.connections.blocking import Connection

log = logging.getLogger(__name__)
FULL_S = 0.1  # until the next look, while too many tasks wait


class Intake:
    """Queues the tasks of one source. A message is confirmed when its job is in the lane, or its result is
    written.

    `most`: tasks that may wait; the others stay with the broker. `on_repeated` gets the ids of tasks whose
    jobs existed. For one thread. Raises errors of the connections: then call `close`, and `step` again.
    """

    def __init__(
        self, source: Source, connection: Connection, results: Results, models: KnownModels, queue: str,
        is_redis: bool, most: int, on_repeated: Callable[[list[str]], None],
    ) -> None:  # fmt: skip
        self._source, self._connection, self._results, self._models = source, connection, results, models
        self._is_redis, self._most, self._on_repeated = is_redis, most, on_repeated
        self._waiting = WaitingTasks(connection, queue)
        self._revoked = RevokedTasks(connection, queue)
        self._revoker = Revoker(connection, queue)

    def step(self) -> None:
        """Queues the next messages; returns after a moment if there are none, or if too many tasks wait."""
        if self._waiting.count() >= self._most:
            time.sleep(FULL_S)
        elif messages := self._source.take():
            self._queue(messages)
            self._source.confirm()

    def close(self) -> None:
        self._source.close()
        self._connection.close()

    def _queue(self, messages: Sequence[Message | Junk]) -> None:
        tasks, refused = _read(messages)
        ready: dict[str, Prediction] = {}
        revoked = self._revoked.among([task.id for task in tasks])
        for task in tasks:
            try:
                if task.id in revoked:
                    raise Refused(TaskRevokedError("revoked"), task.request)
                ready[task.id] = prepare(task, self._models, self._is_redis)
            except Refused as refusal:
                refused.append((refusal.request, of_error(refusal.error)))
        if ready:
            self._submit(ready)
        if refused:
            self._results.write(refused)

    def _submit(self, ready: dict[str, Prediction]) -> None:
        contexts = {name: prediction.context for name, prediction in ready.items()}
        calls = submissions(ready.values())
        replies = self._connection.pipeline(
            [self._waiting.add_command(contexts), *(call for call, _ in calls)]
        )
        repeated: list[str] = []
        for reply, (_, ids) in zip(replies[1:], calls, strict=True):
            if isinstance(reply, redis.RedisError):  # Redis is full: all are sent again
                raise reply
            repeated += [name for name, entry in zip(ids, reply, strict=True) if not isinstance(entry, bytes)]
        if isinstance(replies[0], redis.RedisError):
            raise replies[0]
        if repeated:
            self._on_repeated(repeated)
        if late := self._revoked.among(list(ready)):  # revoked between the first look and the submission
            self._revoker.cancel(sorted(late))


def _read(messages: Sequence[Message | Junk]) -> tuple[list[Task], list[Ended]]:
    """The tasks of messages, and those that are refused. Junk is logged."""
    tasks: list[Task] = []
    refused: list[tuple[dict[str, Any], Any]] = []
    for message in messages:
        try:
            if isinstance(message, Junk):
                raise message
            tasks.append(Task.read(message))
        except Refused as refusal:
            refused.append((refusal.request, of_error(refusal.error)))
        except Junk as junk:
            log.warning("a message is dropped: %s", junk)
    return tasks, refused
