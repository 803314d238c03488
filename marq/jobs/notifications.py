"""Notifications of finished jobs, which replace polling."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from marq import keys
from marq.connections.pipelined import PipelinedConnection
from marq.errors import RedisUnavailable

log = logging.getLogger(__name__)


class Finished:
    """Receives the notifications over one connection that subscribes to the models of the jobs waited for.

    A lost connection is opened again for the next wait; until then callers read the record now and then.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._events: dict[tuple[str, str], list[asyncio.Event]] = {}
        self._connection: PipelinedConnection | None = None
        self._subscribed: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    @contextlib.contextmanager
    def watch(self, model: str, request_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job has finished, or may have: the caller reads its record again."""
        event, key = asyncio.Event(), (model, request_id)
        self._events.setdefault(key, []).append(event)
        if model not in self._subscribed:
            task = asyncio.create_task(self._subscribe(model))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            yield event
        finally:
            self._events[key].remove(event)
            if not self._events[key]:
                del self._events[key]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._connection:
            self._connection.close()

    async def _subscribe(self, model: str) -> None:
        """Subscribes, then wakes all callers that wait for the model: their jobs may have finished before."""
        async with self._lock:
            try:
                if self._connection is None:
                    self._connection = await PipelinedConnection.open(self._url, self._on_lost)
                    self._connection.on_message = self._on_message
                await self._connection.execute("SUBSCRIBE", keys.finished(model))
            except (RedisUnavailable, ConnectionError) as error:
                log.debug("cannot subscribe to the jobs of model %s, polling instead: %s", model, error)
                return
            self._subscribed.add(model)
        for (name, _), events in self._events.items():
            if name == model:
                for event in events:
                    event.set()

    def _on_message(self, channel: bytes, data: bytes) -> None:
        model = channel.decode().partition("{")[2].partition("}")[0]
        for request_id in data.decode().split(" "):
            for event in self._events.get((model, request_id), ()):
                event.set()

    def _on_lost(self, _: PipelinedConnection) -> None:
        self._connection = None
        self._subscribed.clear()


async def wait_and_clear(event: asyncio.Event, timeout_s: float) -> None:
    """Waits until the event is set, and clears it."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
    event.clear()
