"""Jobs: submitted once, kept until their result expires, awaited without polling."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace

import hiredis

from marq import keys
from marq.connections.commands import Reply
from marq.errors import Conflict, JobNotFound, QueueUnavailable, ServiceUnavailable
from marq.jobs.notifications import Finished, wait_and_clear
from marq.jobs.submission import (
    EXISTS,
    OTHER_DIGEST,
    OVER_QUOTA,
    KeyedRequest,
    Row,
    check_quota,
    expect_webhooks,
    over_quota,
    submit_command,
    with_one_head,
)
from marq.payloads.job_files import JobFiles, store_of
from marq.payloads.job_uploads import JobUploads
from marq.queue import job_records, scripts
from marq.queue.broker import Broker
from marq.queue.entries import DEFAULT_TTL_MS, EntryFields
from marq.queue.ids import JobId
from marq.queue.job_records import JobRecord

RECHECK_S = 1.0  # a notification may be lost with its connection: waiting never relies on it alone
MOST_CALLS = 4  # that Redis has not answered


class Jobs:
    """Submits jobs and reads their records. Raises ServiceUnavailable while Redis cannot be reached."""

    def __init__(self, broker: Broker, uploads: JobUploads | None = None) -> None:
        """`uploads`: where large bodies and answers are files; without it they are in Redis."""
        self.broker, self.uploads = broker, uploads
        self._stores: dict[str, JobFiles] = {}  # those of answers that were read
        self._finished = Finished(broker.url)
        self._ends_waits = False

    def end_waits(self) -> None:
        """Waits end soon, also those that begin later: with the job as it is then."""
        self._ends_waits = True

    @property
    def ends_waits(self) -> bool:
        return self._ends_waits

    def watch(self, job: JobId) -> AbstractContextManager[asyncio.Event]:
        """An event that is set when the job may have finished or streamed a part."""
        return self._finished.watch(job.model, job.request_id)

    def stop(self) -> None:
        self._finished.stop()

    async def submit(
        self, model: str, version: str, request_id: bytes, fields: EntryFields, lane: str = keys.NORMAL
    ) -> str:
        """Queues one job; returns its public id."""
        await self._queue(model, version, request_id, fields, lane)
        return str(JobId(model, request_id.decode()))

    async def submit_once(
        self, version: str, request: KeyedRequest, lane: str = keys.NORMAL
    ) -> tuple[str, bool]:
        """Queues a job for a version unless it exists; returns its public id and whether it is new.

        Raises IdempotencyConflict if the key was used for another request.
        """
        queued = await self._queue(request.model, version, request.id, request.fields, lane, request.digest)
        if queued == OTHER_DIGEST:
            raise request.conflict()
        return request.job_id, queued != EXISTS

    async def find(self, request: KeyedRequest) -> str | None:
        """The public id of the job that was submitted with the key, while its record is kept.

        Raises IdempotencyConflict if that was another request.
        """
        record = keys.job(request.model, request.id.decode())
        state, digest = await self.broker.execute("HMGET", record, "state", "digest")
        if state is not None and digest != request.digest:
            raise request.conflict()
        return None if state is None else request.job_id

    async def _queue(
        self, model: str, version: str, request_id: bytes, fields: EntryFields, lane: str,
        digest: bytes = b"",
    ) -> object:  # fmt: skip
        script_keys, arguments = submit_command(model, version, lane, [(request_id, fields)], digest)
        try:
            if b"webhook" in fields.head.options:
                await expect_webhooks(self.broker, model)
            (queued,) = await self.broker.run(scripts.SUBMIT, script_keys, *arguments)
        except hiredis.ReplyError as error:  # Redis is full, or cannot write for another reason
            raise QueueUnavailable(f"Redis refused the request: {error}") from None
        if queued == OVER_QUOTA:
            raise over_quota(model)
        return queued

    async def submit_many(
        self, model: str, version: str, rows: Iterable[Row],
        lane: str = keys.NORMAL, digest: bytes = b"",
    ) -> list[str]:  # fmt: skip
        """Queues many jobs, pipelined; returns their public ids in order. With a `digest`, those that exist
        are not queued again. Raises TooManyJobs after the calls that were sent: some may be queued."""
        ids: list[str] = []
        sent: deque[asyncio.Task[Reply]] = deque()
        try:
            for rows_of_call in with_one_head(rows):
                if b"webhook" in rows_of_call[0][1].head.options:
                    await expect_webhooks(self.broker, model)
                script_keys, arguments = submit_command(model, version, lane, rows_of_call, digest)
                queueing = self.broker.run(scripts.SUBMIT, script_keys, *arguments)
                sent.append(asyncio.create_task(queueing))
                if len(sent) > MOST_CALLS or not ids:  # Redis may not know the script before the first call
                    check_quota(model, await sent.popleft())
                else:
                    await asyncio.sleep(0)  # it leaves while the next one is made
                ids += [f"{model}:{request_id.decode()}" for request_id, _ in rows_of_call]
            while sent:
                check_quota(model, await sent.popleft())
        finally:
            await asyncio.gather(*sent, return_exceptions=True)
        return ids

    async def get(self, public_id: str) -> JobRecord:
        """The job as it is now. Raises JobNotFound."""
        return await self._read(JobId.parse(public_id))

    async def _read(self, job: JobId) -> JobRecord:
        flat = await self.broker.execute("HGETALL", keys.job(job.model, job.request_id))
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        query = job_records.pending_query(stored)
        running_for_ms = await self.running_for_ms(query) if query else None
        if b"streamed" not in stored:
            return job_records.parse_record(job, stored, running_for_ms)
        head, parts = await self.parts(keys.parts(job.model, job.request_id), 1)
        return job_records.parse_record(job, stored, running_for_ms, head, parts)

    async def running_for_ms(self, query: tuple[object, ...]) -> int | None:
        """For how long a replica has had an entry; None if none has it. `query`: of `pending_query`."""
        try:
            pending = await self.broker.execute("XPENDING", *query)
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOGROUP"):  # the model was unregistered
                raise
            return None
        return int(pending[0][2]) if pending else None

    async def wait(self, public_id: str, timeout_s: float, or_streams: bool = False) -> JobRecord:
        """The job when it has finished, or as it is when the time-out has passed. Raises JobNotFound.

        With `or_streams` it returns as soon as the first part of the answer exists.
        """
        job, deadline = JobId.parse(public_id), time.monotonic() + timeout_s
        record = await self._read(job)
        if timeout_s <= 0:
            return record
        with self._finished.watch(job.model, job.request_id) as event:
            while not (record.is_finished or (or_streams and record.parts) or self._ends_waits):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                await wait_and_clear(event, min(left, RECHECK_S))
                with contextlib.suppress(ServiceUnavailable):  # a restart of Redis: the job is kept
                    record = await self._read(job)
        return record

    async def cancel(self, public_id: str, ttl_ms: int = DEFAULT_TTL_MS) -> bool:
        """Cancels an unfinished job: a queued job is never run, the result of a running job is dropped.

        Returns False for a finished job. Raises JobNotFound.
        """
        job = JobId.parse(public_id)
        record, channel = keys.job(job.model, job.request_id), keys.finished(job.model)
        while True:
            state, lane = await self.broker.execute("HMGET", record, "state", "lane")
            if state is None:
                raise JobNotFound(f"Job not found: {job}")
            now_ms = int(time.time() * 1000)
            cancelled = await self.broker.run(
                scripts.CANCEL, [record, lane or b""], keys.GROUP, job.request_id, now_ms, ttl_ms, channel
            )
            if cancelled is not None:
                return bool(cancelled)

    async def retry(self, public_id: str) -> None:
        """Queues a failed or expired job again, with its id. Raises JobNotFound and Conflict."""
        job = JobId.parse(public_id)
        record = keys.job(job.model, job.request_id)
        version = await self.broker.execute("HGET", record, "version")
        done = await self.broker.run(
            scripts.RETRY, [record, keys.parts(job.model, job.request_id)], version or b""
        )
        if done is None:
            raise JobNotFound(f"Job not found: {job}")
        if done == 0:
            state = (await self._read(job)).state
            raise Conflict(f"Job {job} is {state}; only failed and expired jobs can be retried.")
        if done < 0:
            raise Conflict(f"The request of job {job} was not kept; submit it again.")

    async def files_of(self, ref: bytes) -> JobFiles:
        """The store of a file. Raises PayloadLost where it is not on this host."""
        name = store_of(ref)
        if self.uploads and self.uploads.files.owns(ref):
            return self.uploads.files
        if name not in self._stores:
            directory = await self.broker.execute("HGET", keys.JOB_STORES, name)
            self._stores[name] = JobFiles.found(directory)
        return self._stores[name]

    async def with_body(self, record: JobRecord) -> JobRecord:
        """The record with the result in it, also if that is a file. Raises PayloadLost."""
        if not record.body_ref:
            return record
        files = await self.files_of(record.body_ref)
        body = bytes(await asyncio.to_thread(files.load, record.body_ref))
        return replace(record, body=body, body_ref=b"")

    async def parts(self, key: str, start: int) -> tuple[bytes, list[bytes]]:
        """How a streamed answer begins, and its parts from this one on; `key`: see `keys.parts`."""
        head = self.broker.execute("LRANGE", key, 0, 0)
        parts: list[bytes] = await self.broker.execute("LRANGE", key, start, -1)
        return b"".join(await head), parts
