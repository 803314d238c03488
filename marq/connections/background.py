"""Sends commands to Redis from a thread of its own, in order, and again until Redis has taken them.

A handler that streams must neither wait for Redis nor fail while Redis cannot be reached for a moment.
"""

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, Queue

import redis

from marq.connections.blocking import Connection
from marq.connections.commands import Reply
from marq.connections.urls import RECONNECT_DELAY_S, Command

OnReply = Callable[[Reply], None]
log = logging.getLogger(__name__)

MOST_WAITING = 10_000  # commands: then callers wait, so that memory stays bounded
MOST_AT_ONCE = 256


class Sender:
    """A queue of commands and the thread that empties it. For use by any thread."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)
        self._queue: Queue[tuple[Command, OnReply | None]] = Queue(MOST_WAITING)
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def send(self, commands: list[Command]) -> None:
        """Queues the commands; returns at once unless MOST_WAITING commands are queued."""
        self._begin()
        for command in commands:
            self._queue.put((command, None))

    def ask(self, command: Command, on_reply: OnReply) -> None:
        """Queues one command; the sender's thread calls `on_reply` with the reply."""
        self._begin()
        self._queue.put((command, on_reply))

    def settle(self) -> None:
        """Waits until all commands that are queued so far are confirmed."""
        self._queue.join()

    def _begin(self) -> None:
        if self._thread is not None:
            return
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            queued = self._next()
            replies = self._send([command for command, _ in queued])
            for (_, on_reply), reply in zip(queued, replies, strict=True):
                if on_reply is not None:
                    on_reply(reply)
                self._queue.task_done()

    def _next(self) -> list[tuple[Command, OnReply | None]]:
        queued = [self._queue.get()]
        try:
            while len(queued) < MOST_AT_ONCE:
                queued.append(self._queue.get_nowait())
        except Empty:
            pass
        return queued

    def _send(self, commands: list[Command]) -> list[Reply]:
        """Sends until Redis has taken all. Some may arrive twice; readers notice it by the numbers."""
        level = logging.WARNING  # of the first failure; the next ones are not worth a line each
        while True:
            try:
                return self._connection.send(commands)
            except redis.RedisError as error:
                log.log(level, "%d commands cannot be sent to Redis, retrying: %s", len(commands), error)
                level = logging.DEBUG
                self._connection.close()
                time.sleep(RECONNECT_DELAY_S)
