"""What is submitted: rows, jobs with an idempotency key, and the calls of submit.lua, which queues them."""

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from marq import keys
from marq.errors import IdempotencyConflict, TooManyJobs
from marq.payloads import body_keys
from marq.payloads.job_files import JobFiles
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.ids import JobId

IDEMPOTENCY = uuid.UUID("6f1b0a5e-5d0f-4b6e-9a57-3c1f6c1d9f42")  # ids of jobs that were submitted with a key
EXISTS, OTHER_DIGEST, OVER_QUOTA = 0, -1, -2  # of submit.lua
QUOTA_RETRY_S = 10
MOST_JOBS = 100  # of one call: Redis does nothing else meanwhile
MOST_BYTES = 1_000_000  # of the bodies of one call, but for its last one
Row = tuple[bytes, EntryFields]  # with the id of the request


def keyed_id(model: str, key: str) -> bytes:
    """The request id of the job of a model with an idempotency key."""
    return str(uuid.uuid5(IDEMPOTENCY, f"{model}:{key}")).encode()


@dataclass(frozen=True)
class KeyedRequest:
    """A job with an idempotency key: no second job is queued while the record of the first job with this key
    and model exists."""

    model: str
    version: str | None  # as requested; None: the default version, which may have changed since
    key: str
    fields: EntryFields
    files: JobFiles | None = None  # with the body, if that is a file

    @property
    def id(self) -> bytes:
        return keyed_id(self.model, self.key)

    @property
    def job_id(self) -> str:
        return str(JobId(self.model, self.id.decode()))

    @cached_property
    def digest(self) -> bytes:
        """The digest of the handler's input; the deadline is not part of it."""
        head = self.fields.head
        parts = (self.version or "").encode(), head.type, head.path or b"", self.fields.body
        digest = hashlib.sha256(b"\0".join((*parts, *_input_url(head.options))))
        if self.fields.file is not None and self.files is not None:
            digest.update(self.files.load(self.fields.file.ref))
        return digest.hexdigest().encode()

    def conflict(self) -> IdempotencyConflict:
        return IdempotencyConflict(f"Idempotency-Key {self.key!r:.100} was used for another request.")


def _input_url(options: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(url for name, url in zip(options[::2], options[1::2], strict=True) if name == b"input_url")


def over_quota(model: str) -> TooManyJobs:
    """The refusal of a job whose caller has as many unfinished jobs as it may have."""
    return TooManyJobs(
        f'Model "{model}": the caller of the job has as many unfinished jobs as callerQuota allows. '
        f"Try again in {QUOTA_RETRY_S} s.",
        QUOTA_RETRY_S,
    )


def check_quota(model: str, results: Sequence[object]) -> None:
    if OVER_QUOTA in results:
        raise over_quota(model)


async def expect_webhooks(broker: Broker, model: str) -> None:
    """Has the senders of webhooks look at this model. Called before a job with a webhook is queued."""
    await broker.execute("ZADD", keys.WEBHOOKS, int(time.time()), model)


def with_one_head(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in lists, each with the same head and not too long for one call."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        if chunk and (len(chunk) == MOST_JOBS or size > MOST_BYTES or row[1].head is not chunk[0][1].head):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row[1].body)
    if chunk:
        yield chunk


def submit_command(
    model: str, version: str, lane: str, rows: Sequence[Row], digest: bytes = b""
) -> tuple[list[str], tuple[object, ...]]:
    """(keys, arguments) of the script that queues jobs, which have the same head."""
    shared = rows[0][1].head.of_job.flat
    of_jobs: list[bytes] = []
    for request_id, fields in rows:
        name, body = fields.body_field
        if fields.file is None and body_keys.becomes_key(request_id, body):
            name = body_keys.FIELD
        of_jobs += (request_id, name, body)
    now_ms = int(time.time() * 1000)
    return [keys.lane(model, version, lane)], (now_ms, version, digest, len(shared), *shared, *of_jobs)
