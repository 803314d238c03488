"""Jobs: submitted once, kept until their result is old, waited for without polling."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import hiredis

from marq import keys, results, scripts
from marq.broker import Broker
from marq.errors import RedisUnavailable, ServiceUnavailable
from marq.pipelined import PipelinedConnection
from marq.results import JobRecord

log = logging.getLogger(__name__)

RECHECK_S = 1.0  # a notification may be lost with its connection: waiting never relies on it alone
CHUNK = 1000  # jobs that are queued before their replies are awaited


class Jobs:
    """Submits jobs and reads their records. Raises ServiceUnavailable while Redis is gone."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._finished = Finished(broker.url)

    def stop(self) -> None:
        self._finished.stop()

    async def submit(self, model: str, version: str, request_id: bytes, fields: tuple[bytes, ...]) -> str:
        """Queues one job; returns its public id. With an id that exists it changes nothing."""
        command = submit_command(model, version, request_id, fields, keys.NORMAL)
        await self._broker.run(scripts.SUBMIT, list(command[0]), *command[1])
        return results.job_id(model, request_id.decode())

    async def submit_many(
        self, model: str, version: str, rows: Iterable[tuple[bytes, tuple[bytes, ...]]]
    ) -> list[str]:
        """Queues many jobs, pipelined; returns their public ids in order."""
        ids: list[str] = []
        waiting = [self._load_script()]
        for request_id, fields in rows:
            script_keys, arguments = submit_command(model, version, request_id, fields, keys.NORMAL)
            waiting.append(self._broker.execute(*scripts.SUBMIT.call(list(script_keys), *arguments)))
            ids.append(results.job_id(model, request_id.decode()))
            if len(waiting) >= CHUNK:
                await asyncio.gather(*waiting)
                waiting = [self._load_script()]
        await asyncio.gather(*waiting)
        return ids

    def _load_script(self) -> asyncio.Future[Any]:
        return self._broker.execute("SCRIPT", "LOAD", scripts.SUBMIT.text)

    async def get(self, public_id: str) -> JobRecord:
        """The job as it is now. Raises JobNotFound."""
        model, request_id = results.split_job_id(public_id)
        flat = await self._broker.execute("HGETALL", keys.job(model, request_id))
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        query = results.pending_query(stored)
        running_for_ms = await self._running_for_ms(query) if query else None
        return results.parse_record(public_id, stored, running_for_ms)

    async def _running_for_ms(self, query: tuple[object, ...]) -> int | None:
        try:
            pending = await self._broker.execute("XPENDING", *query)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOGROUP"):  # the model was unregistered
                raise
            return None
        return int(pending[0][2]) if pending else None

    async def wait(self, public_id: str, timeout_s: float) -> JobRecord:
        """The job when it has finished, or as it is when the time-out has passed. Raises JobNotFound."""
        deadline = time.monotonic() + timeout_s
        record = await self.get(public_id)
        if record.is_finished or timeout_s <= 0:
            return record
        model, request_id = results.split_job_id(public_id)
        with self._finished.watch(model, request_id) as event:
            while True:
                event.clear()
                with contextlib.suppress(ServiceUnavailable):  # a restart of Redis: the job is kept
                    record = await self.get(public_id)
                left = deadline - time.monotonic()
                if record.is_finished or left <= 0:
                    return record
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), min(left, RECHECK_S))


def submit_command(
    model: str, version: str, request_id: bytes, fields: tuple[bytes, ...], lane: str
) -> tuple[tuple[str, str], tuple[object, ...]]:
    """(keys, arguments) of the script that queues one job."""
    script_keys = keys.job(model, request_id.decode()), keys.lane(model, version, lane)
    return script_keys, (int(time.time() * 1000), version, b"id", request_id, b"job", b"1", *fields)


class Finished:
    """Hears which jobs have finished, over one connection that subscribes to the models waited for.

    A lost connection is opened again for the next wait; until then those who wait look again by themselves.
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
        """An event that is set when the job finishes (or may have: look again)."""
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
        """Wakes those who wait once more afterwards: their jobs may have finished before."""
        async with self._lock:
            try:
                if self._connection is None:
                    self._connection = await PipelinedConnection.open(self._url, self._on_lost)
                    self._connection.on_message = self._on_message
                await self._connection.execute("SUBSCRIBE", keys.finished(model))
            except (RedisUnavailable, ConnectionError) as error:
                log.debug("no subscription for %s: %s", model, error)
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
