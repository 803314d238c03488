"""Writes the results of tasks whose jobs have finished."""

import logging
import queue
import time
from collections.abc import Iterable, Sequence
from typing import Any

from bridge.outcomes import Outcome, ResultLost, of_error, of_job
from bridge.results import Ended, Results
from bridge.waiting import WaitingTasks
from marq import keys
from marq.connections.blocking import Connection
from marq.connections.clients import client

log = logging.getLogger(__name__)
AT_ONCE = 500  # results that are written together
LOOK_S = 1.0  # between two looks at some of the waiting tasks: a notification may be lost
LOST_AFTER_S = 60.0  # a task without a job's record: it has expired
WAIT_S = 0.25


class Settler:
    """Waits for notifications of finished jobs, and writes the results of those that are tasks.

    It looks at all waiting tasks first, and then at some of them each second. For one thread. Raises errors
    of the connections: then call `close`, and `step` again.
    """

    def __init__(self, url: str, connection: Connection, results: Results, queue_name: str) -> None:
        self._url, self._connection, self._results = url, connection, results
        self._waiting = WaitingTasks(connection, queue_name)
        self._subscription: Any = None
        self._cursor, self._looked, self._catches_up = 0, 0.0, True
        self._missing: dict[str, float] = {}  # tasks without a record, since when
        self.repeated: queue.SimpleQueue[list[str]] = queue.SimpleQueue()  # ids to look at, from any thread

    def step(self) -> None:
        """Writes the results that are there; returns after a moment if there are none."""
        if self._subscription is None:
            self._subscribe()
        now = time.monotonic()
        if self._catches_up or now - self._looked >= LOOK_S:
            self._looked = now
            self._look()
        while not self.repeated.empty():
            self.settle(self.repeated.get())
        if ids := self._finished(0 if self._catches_up else WAIT_S):
            self.settle(ids)

    def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
        self._connection.close()

    def settle(self, ids: Iterable[str]) -> None:
        """Writes the results of those of these tasks whose jobs have finished, and forgets them."""
        unique = list(dict.fromkeys(ids))
        for first in range(0, len(unique), AT_ONCE):
            self._settle(unique[first : first + AT_ONCE])

    def _settle(self, ids: Sequence[str]) -> None:
        requests = self._waiting.find(ids)
        if not requests:
            return
        ended: list[Ended] = []
        done: dict[str, dict[str, Any]] = {}
        for name, found in self._waiting.records(requests).items():
            request = requests[name]
            if found is None:
                outcome = self._outcome_without_record(name)
            else:
                record, is_written = found
                self._missing.pop(name, None)
                outcome = of_job(record, request["returns"]) if record.is_finished else None
                if is_written:
                    done[name], outcome = request, None
            if outcome is not None:
                ended.append((request, outcome))
                done[name] = request
        if ended:
            self._results.write(ended)
        if done:
            self._waiting.settle(done)

    def _outcome_without_record(self, name: str) -> Outcome | None:
        """None for a task that may be about to become a job."""
        since = self._missing.setdefault(name, time.monotonic())
        if time.monotonic() - since < LOST_AFTER_S:
            return None
        del self._missing[name]
        log.error("task %s: the record of its job has expired; its result is lost", name)
        return of_error(ResultLost("The record of the job has expired before its result was written."))

    def _look(self) -> None:
        """Looks at some of the tasks."""
        self._cursor, ids = self._waiting.scan(self._cursor, AT_ONCE)
        self._catches_up = self._catches_up and self._cursor != 0
        self.settle(ids)

    def _subscribe(self) -> None:
        self._subscription = client(self._url).pubsub(ignore_subscribe_messages=True)  # type: ignore[attr-defined]
        self._subscription.psubscribe(keys.FINISHED)
        self._cursor, self._catches_up = 0, True

    def _finished(self, wait_s: float) -> list[str]:
        """The ids in the notifications that are there."""
        ids: list[str] = []
        message = self._subscription.get_message(timeout=wait_s)
        while message is not None:
            ids += message["data"].decode(errors="replace").split(" ")
            message = self._subscription.get_message(timeout=0) if len(ids) < AT_ONCE else None
        return ids
