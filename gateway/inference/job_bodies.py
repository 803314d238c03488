"""Large bodies and results of jobs, which are files of the store that gateway and replicas share."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from io import FileIO

from starlette.types import Receive, Scope

from gateway.uploads import Uploads
from marq.jobs.jobs import Jobs
from marq.payloads.files import lost
from marq.payloads.folder import Upload
from marq.payloads.job_uploads import JobUploads
from marq.queue.entries import EntryFields
from marq.queue.job_records import JobRecord

CHUNK = 1 << 20  # bytes of a result that are in memory


async def read_job(
    uploads: Uploads, files: JobUploads, model: str, request_id: bytes, scope: Scope, receive: Receive
) -> bytes | Upload:
    """The body of a job: in a file, if it is large. Raises as `Uploads.read_into`."""
    await files.look()
    begun: list[Upload] = []

    def begin(size: int) -> Upload:
        begun.append(files.begin(model, request_id, size))
        return begun[0]

    try:
        return await uploads.read_into(scope, receive, files.files.threshold, begin)
    except BaseException:
        for upload in begun:
            files.discard(upload)
        raise


async def with_files(files: JobUploads, model: str, request_id: bytes, fields: EntryFields) -> EntryFields:
    """The fields of a job whose body, if it is large, is a file on the disk, and whose result may be one.

    Raises QueueFull.
    """
    fields = await in_file(files, model, request_id, fields)
    added: tuple[bytes, ...] = (b"store", files.files.identity.encode())
    if fields.file is not None:
        added += (b"size", b"%d" % fields.size)
    head = replace(fields.head, options=(*fields.head.options, *added))
    return EntryFields(fields.body, head, fields.file)


async def in_file(files: JobUploads, model: str, request_id: bytes, fields: EntryFields) -> EntryFields:
    """The fields of a job whose body, if it is large, is a file on the disk. Raises QueueFull."""
    upload = fields.file
    if upload is None and fields.size > files.files.threshold:
        upload = await files.add(model, request_id, fields.body)
    if upload is not None:
        await files.sync(upload)
    return EntryFields(fields.body if upload is None else b"", fields.head, upload)


async def result_of(jobs: Jobs, record: JobRecord) -> tuple[int, AsyncIterator[bytes]]:
    """The size of a result that is a file, and its bytes. Raises PayloadLost."""
    files = await jobs.files_of(record.body_ref)
    try:
        file = open(files.path(record.body_ref), "rb", buffering=0)  # noqa: SIM115, PTH123
    except OSError as error:
        raise lost(error) from None
    return file.seek(0, 2), _chunks(file)


async def _chunks(file: FileIO) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
