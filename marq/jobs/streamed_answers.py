"""The streamed answer of a job, for a reader that takes the parts as they come."""

from collections.abc import AsyncIterator

from marq import keys
from marq.errors import StreamBroken
from marq.jobs.jobs import RECHECK_S, Jobs
from marq.jobs.notifications import wait_and_clear
from marq.queue import job_records
from marq.queue.ids import JobId


async def parts_of(jobs: Jobs, public_id: str) -> AsyncIterator[bytes]:
    """The parts that a job streams, from the first to the last.

    Raises StreamBroken when another replica starts the job again, and when the job fails.
    """
    job = JobId.parse(public_id)
    begin, sent = b"", 0
    with jobs.watch(job) as event:
        while True:
            # Read before the parts, so that a finished job has all of them.
            finished = (await jobs.get(public_id)).is_finished
            head, parts = await jobs.parts(keys.parts(job.model, job.request_id), sent + 1)
            if begin not in (b"", head):
                raise StreamBroken(f"Job {job} was started again.")
            begin, sent = head, sent + len(parts)
            for part in parts:
                yield part
            if finished:
                break
            await wait_and_clear(event, RECHECK_S)
    if last := await _last_part(jobs, job, begin):
        yield last


async def _last_part(jobs: Jobs, job: JobId, begin: bytes) -> bytes:
    status, body = await jobs.broker.execute("HMGET", keys.job(job.model, job.request_id), "status", "body")
    if not job_records.completes(begin, int(status or 0)):
        raise StreamBroken(f"Job {job} ended with status {status!r}.")
    return bytes(body)
