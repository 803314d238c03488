"""How a job is taken in: limits, URLs, idempotency key, and its body.

A large body is a file of the store that gateway and replicas share.
"""

import asyncio
from dataclasses import replace

from starlette.types import Receive, Scope

from gateway.routing.route import Route
from gateway.uploads import Uploads, too_large
from marq.errors import BadRequest, QueueUnavailable, ServiceError, ServiceUnavailable
from marq.jobs.jobs import Jobs
from marq.jobs.submission import KeyedRequest, keyed_id
from marq.jobs.url_rules import UrlRules
from marq.payloads.folder import Upload
from marq.payloads.job_files import request_id_of
from marq.payloads.job_uploads import JobUploads
from marq.queue.entries import EntryFields
from marq.queue.ids import new_id


class JobIntake:
    """Reads the bodies of jobs and queues the jobs. `Predictor`, whose hooks see them, is the way to it."""

    def __init__(self, jobs: Jobs, uploads: Uploads, url_rules: UrlRules, max_request_size: int) -> None:
        self._jobs, self._uploads = jobs, uploads
        self._url_rules, self._max_request_size = url_rules, max_request_size

    async def read(self, route: Route, scope: Scope, receive: Receive, key: str = "") -> bytes | Upload:
        """The body of a job for `submit`: in a file, if it is large and the replicas share the store.

        Raises as `Uploads.read`, and QueueFull before a body is read for which there is no room.
        """
        files = self._jobs.uploads
        if files is None or not route.keeps_files:
            return await self._uploads.read(scope, receive)
        return await read_job(self._uploads, files, route.spec.name, _job_id(route, key), scope, receive)

    async def submit(self, route: Route, fields: EntryFields, key: str = "") -> str:
        """Queues a job; returns its public id. With an idempotency key, a job is queued once.

        A job with the same key is returned even where no new one can be taken. A file with the body is
        removed if no job is queued with it. Raises ServiceError.
        """
        if fields.size > self._max_request_size:
            raise too_large(fields.size, self._max_request_size)
        self._check_urls(route, fields)
        files = self._jobs.uploads
        if files is None or not route.keeps_files:
            return (await self._submit(route, fields, key))[0]
        fields = await _with_files(files, route.spec.name, _job_id(route, key), fields)
        is_new = True
        try:
            job_id, is_new = await self._submit(route, fields, key)
        except ServiceError as error:
            # Redis may have queued the job whose answer was lost: the node removes the file if it has not
            is_new = isinstance(error, QueueUnavailable)
            raise
        finally:
            if fields.file is not None and not is_new:
                files.discard(fields.file)
        return job_id

    async def _submit(self, route: Route, fields: EntryFields, key: str) -> tuple[str, bool]:
        """(public id, whether the job is new)."""
        if not key:
            return await self._submit_new(route, fields), True
        version = route.spec.version if route.versioned else None
        files = self._jobs.uploads.files if self._jobs.uploads else None
        request = KeyedRequest(route.spec.name, version, key, fields, files)
        if fields.file is not None:
            await asyncio.to_thread(lambda: request.digest)  # it reads the body
        try:
            return await self._submit_once(route, request)
        except ServiceUnavailable:
            if (job_id := await self._jobs.find(request)) is None:
                raise
            return job_id, False

    def _check_urls(self, route: Route, fields: EntryFields) -> None:
        """Raises BadRequest for a URL that is not allowed, but for the model's own webhook.

        Replicas and the sender of webhooks check again, with the address.
        """
        options = fields.head.options
        for name, url in zip(options[::2], options[1::2], strict=True):
            if name in (b"input_url", b"output_url"):
                self._url_rules.transfers.check(url.decode(), name.decode())
            if name == b"webhook" and url.decode() != route.spec.webhook_url:
                self._url_rules.check_webhook(url.decode())
            if name == b"input_url" and fields.size:
                raise BadRequest("A job with an input_url has no body of its own; this one has.")

    async def _submit_new(self, route: Route, fields: EntryFields) -> str:
        route.admit_job(fields.size)
        request_id = new_id() if fields.file is None else request_id_of(fields.file.ref)
        try:
            return await self._jobs.submit(
                route.spec.name, route.spec.version, request_id, fields, route.priority
            )
        except ServiceUnavailable:
            route.backlog.forgo(fields.size)
            raise

    async def _submit_once(self, route: Route, request: KeyedRequest) -> tuple[str, bool]:
        route.admit_job(request.fields.size)
        is_new = False
        try:
            job_id, is_new = await self._jobs.submit_once(route.spec.version, request, route.priority)
        finally:
            if not is_new:
                route.backlog.forgo(request.fields.size)
        return job_id, is_new


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


async def in_file(files: JobUploads, model: str, request_id: bytes, fields: EntryFields) -> EntryFields:
    """The fields of a job whose body, if it is large, is a file on the disk. Raises QueueFull."""
    upload = fields.file
    if upload is None and fields.size > files.files.threshold:
        upload = await files.add(model, request_id, fields.body)
    if upload is not None:
        await files.sync(upload)
    return EntryFields(fields.body if upload is None else b"", fields.head, upload)


async def _with_files(files: JobUploads, model: str, request_id: bytes, fields: EntryFields) -> EntryFields:
    """The fields of a job whose body, if it is large, is a file on the disk, and whose result may be one.

    Raises QueueFull.
    """
    fields = await in_file(files, model, request_id, fields)
    added: tuple[bytes, ...] = (b"store", files.files.identity.encode())
    if fields.file is not None:
        added += (b"size", b"%d" % fields.size)
    head = replace(fields.head, options=(*fields.head.options, *added))
    return EntryFields(fields.body, head, fields.file)


def _job_id(route: Route, key: str) -> bytes:
    return keyed_id(route.spec.name, key) if key else new_id()
