"""The client for event loops, and the requests and results of both clients."""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from marq import keys
from marq.connections.clients import client as redis_client
from marq.errors import MarqError
from marq.host import server_file
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead, Reply
from marq.queue.ids import new_id
from marq.queue.job_records import JobRecord
from marq.queue.jobs import Jobs, KeyedRequest
from marq.registry.models import Models, Registry
from marq.registry.spec import ModelSpec

DEFAULT_TIMEOUT_S = 60.0
LONGEST_START_S = 366 * 86_400
REGISTRY_AGE_S = 5.0  # how old a client's knowledge of models and default versions may be


class PredictionFailed(MarqError):
    """Raised when the answer to a request is an error; carries its status, headers and body."""

    def __init__(self, result: "Result") -> None:
        super().__init__(f"status {result.status}: {result.body[:500].decode('utf-8', 'replace')}")
        self.result = result


@dataclass(frozen=True)
class Result:
    """The handler's answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def check(self) -> Self:
        """The result itself. Raises PredictionFailed for a status of 400 and above."""
        if self.status >= 400:
            raise PredictionFailed(self)
        return self


def encode(data: object, content_type: str | None = None, deadline: bytes = b"") -> EntryFields:
    """The fields of a request: bytes go as they are, text as UTF-8, everything else as JSON."""
    if isinstance(data, bytes | bytearray | memoryview):
        body, kind = bytes(data), ""
    elif isinstance(data, str):
        body, kind = data.encode(), "text/plain"
    else:
        body, kind = json.dumps(data).encode(), "application/json"
    return EntryFields(body, _head((content_type if content_type is not None else kind).encode(), deadline))


@lru_cache(maxsize=16)
def _head(kind: bytes, deadline: bytes) -> EntryHead:
    """Many rows in a row share one."""
    return EntryHead(type=kind, deadline=deadline)


class AsyncClient:
    """Submits predictions and jobs from an event loop.

    Without a URL it finds `MARQ_REDIS_URL`, or the server that this user runs on this host. Methods raise
    ModelNotFound, ModelVersionNotFound, ServiceUnavailable and RedisUnavailable.
    """

    def __init__(self, redis_url: str | None = None) -> None:
        self._url = redis_url or server_file.redis_url()
        self._broker = Broker(self._url)
        self._jobs = Jobs(self._broker)
        self._specs: dict[tuple[str, str | None], ModelSpec] = {}
        self._asked = 0.0

    async def __aenter__(self) -> Self:
        await self._broker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.stop()
        await self._broker.stop()

    async def predict(
        self,
        model: str,
        data: object,
        *,
        version: str | None = None,
        content_type: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Result:
        """The handler's answer. Raises PredictionFailed for an error status, TimeoutError when late."""
        spec, request_id = await self._spec(model, version), new_id()
        lane = keys.lane(spec.name, spec.version).encode()
        try:
            async with asyncio.timeout(timeout):
                reply = await self._broker.predict(lane, request_id, encode(data, content_type))
        finally:
            self._broker.withdraw(request_id)
        return _result(reply).check()

    async def submit(
        self,
        model: str,
        data: object,
        *,
        version: str | None = None,
        content_type: str | None = None,
        key: str = "",
        start_within: float | None = None,
    ) -> "AsyncJob":
        """Queues one job; with an idempotency `key`, once for as long as the job's record is kept.

        A job that has not started within `start_within` seconds is `expired`.
        Raises IdempotencyConflict where the key was used for something else.
        """
        fields = encode(data, content_type, _deadline(start_within))
        spec = await self._spec(model, version)
        if key:
            request = KeyedRequest(spec.name, version, key, fields)
            public_id, _ = await self._jobs.submit_once(spec.version, request)
        else:
            public_id = await self._jobs.submit(spec.name, spec.version, new_id(), fields)
        return AsyncJob(self, public_id)

    async def submit_many(
        self,
        model: str,
        rows: Iterable[object],
        *,
        version: str | None = None,
        content_type: str | None = None,
        start_within: float | None = None,
    ) -> "list[AsyncJob]":
        """Queues one job for each row, pipelined. `start_within`: as for `submit`, for each of them."""
        deadline = _deadline(start_within)
        spec = await self._spec(model, version)
        encoded = ((new_id(), encode(row, content_type, deadline)) for row in rows)
        return [AsyncJob(self, i) for i in await self._jobs.submit_many(spec.name, spec.version, encoded)]

    async def status(self, job: "str | AsyncJob") -> JobRecord:
        """The job as it is now. Raises JobNotFound."""
        return await self._jobs.get(str(job))

    async def cancel(self, job: "str | AsyncJob") -> bool:
        """Ends a job that has not finished; False for one that has. Raises JobNotFound."""
        return await self._jobs.cancel(str(job))

    async def result(self, job: "str | AsyncJob", timeout: float = DEFAULT_TIMEOUT_S) -> Result:
        """The finished job's answer. Raises TimeoutError, PredictionFailed, JobNotFound."""
        record = await self._jobs.wait(str(job), timeout)
        if not record.is_finished:
            raise TimeoutError(f"job {job} is still {record.state} after {timeout} s")
        return Result(record.status or 0, record.body or b"", record.headers).check()

    async def _spec(self, model: str, version: str | None) -> ModelSpec:
        """Asks the registry every few seconds only; a model that is unknown is asked for at once."""
        now = time.monotonic()
        if now - self._asked > REGISTRY_AGE_S:
            self._specs.clear()
            self._asked = now
        if (model, version) not in self._specs:
            models = await asyncio.to_thread(self._models)
            self._specs[model, version] = models.get(model, version)
        return self._specs[model, version]

    def _models(self) -> Models:
        with redis_client(self._url) as connection:
            return Registry(connection).models()


class AsyncJob:
    """A submitted job; `str(job)` is its id."""

    def __init__(self, client: AsyncClient, public_id: str) -> None:
        self._client, self.id = client, public_id

    def __str__(self) -> str:
        return self.id

    async def status(self) -> JobRecord:
        return await self._client.status(self.id)

    async def result(self, timeout: float = DEFAULT_TIMEOUT_S) -> Result:
        return await self._client.result(self.id, timeout)


def _deadline(start_within: float | None) -> bytes:
    """The value that keeps replicas from running an entry after `start_within` seconds."""
    if start_within is None:
        return b""
    if not 0 < start_within < LONGEST_START_S:
        raise ValueError(f"start_within must be above 0 and below {LONGEST_START_S} s, not {start_within}")
    return b"%d" % (1000 * (time.time() + start_within))


def _result(reply: Reply) -> Result:
    return Result(reply.status, reply.body, json.loads(reply.headers or b"{}"))
