"""Jobs: submitted once, kept until their result is old, waited for without polling."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import redis.asyncio

from marq import keys, results, scripts
from marq.broker import Broker
from marq.connection import CONNECT_TIMEOUT_S
from marq.results import JobRecord

log = logging.getLogger(__name__)

RECHECK_S = 1.0  # a notification may be lost with its connection: waiting never relies on it alone
CHUNK = 1000  # jobs that are queued before their replies are awaited


class Jobs:
    """Submits jobs and reads their records. Raises ServiceUnavailable while Redis is gone."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._finished = Finished(broker.url)

    async def stop(self) -> None:
        await self._finished.stop()

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
        waiting: list[asyncio.Future[Any]] = []
        for request_id, fields in rows:
            script_keys, arguments = submit_command(model, version, request_id, fields, keys.NORMAL)
            waiting.append(self._broker.execute(*scripts.SUBMIT.call(list(script_keys), *arguments)))
            ids.append(results.job_id(model, request_id.decode()))
            if len(waiting) >= CHUNK:
                await asyncio.gather(*waiting)
                waiting = []
        await asyncio.gather(*waiting)
        return ids

    async def get(self, public_id: str) -> JobRecord:
        """The job as it is now. Raises JobNotFound."""
        model, request_id = results.split_job_id(public_id)
        flat = await self._broker.execute("HGETALL", keys.job(model, request_id))
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        running_for_ms = None
        query = results.pending_query(stored)
        if query and (pending := await self._broker.execute("XPENDING", *query)):
            running_for_ms = pending[0][2]
        return results.parse_record(public_id, stored, running_for_ms)

    async def wait(self, public_id: str, timeout_s: float) -> JobRecord:
        """The job when it has finished, or as it is when the time-out has passed. Raises JobNotFound."""
        deadline = time.monotonic() + timeout_s
        record = await self.get(public_id)
        if record.is_finished or timeout_s <= 0:
            return record
        model, request_id = results.split_job_id(public_id)
        with self._finished.watch(model, request_id) as event:
            while True:
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
    """Hears which jobs have finished, over one subscription for each model that is waited for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._events: dict[tuple[str, str], list[asyncio.Event]] = defaultdict(list)
        self._listeners: dict[str, asyncio.Task[None]] = {}

    @contextlib.contextmanager
    def watch(self, model: str, request_id: str) -> Any:
        """An event that is set when the job finishes (or may have: look again)."""
        event, key = asyncio.Event(), (model, request_id)
        self._events[key].append(event)
        if model not in self._listeners:
            self._listeners[model] = asyncio.create_task(self._listen(model))
        try:
            yield event
        finally:
            self._events[key].remove(event)
            if not self._events[key]:
                del self._events[key]

    async def stop(self) -> None:
        for task in self._listeners.values():
            task.cancel()
        await asyncio.gather(*self._listeners.values(), return_exceptions=True)

    async def _listen(self, model: str) -> None:
        while True:
            try:
                await self._subscribe(model)
            except (redis.RedisError, OSError) as error:
                log.debug("the subscription for %s was lost: %s", model, error)
                await asyncio.sleep(RECHECK_S)

    async def _subscribe(self, model: str) -> None:
        client: Any = redis.asyncio.Redis.from_url(
            self._url, protocol=2, socket_connect_timeout=CONNECT_TIMEOUT_S
        )
        async with client, client.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(keys.finished(model))
            async for message in subscription.listen():
                for request_id in message["data"].decode().split(" "):
                    for event in self._events.get((model, request_id), ()):
                        event.set()
