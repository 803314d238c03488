"""The bodies of jobs that one gateway writes into the store of job files, and the bound of that store."""

import asyncio
import contextlib
import os
import time

from marq.errors import QueueFull
from marq.payloads.folder import KEPT_FREE, Upload
from marq.payloads.job_files import BODY, JobFiles

MEASURE_EVERY_S = 5.0  # the store may have many files


class JobUploads:
    """Not for use by several threads. The file of a job that is not queued must be discarded."""

    def __init__(self, files: JobFiles, most: int) -> None:
        """`most`: bytes of all files of the store, as far as other gateways' uploads are known."""
        self.files, self._most = files, most
        self._used = 0  # at the last look, and what this gateway has added since
        self._looked = -MEASURE_EVERY_S

    async def look(self) -> None:
        """Measures the store, unless that was done just now."""
        if time.monotonic() - self._looked >= MEASURE_EVERY_S:
            self._looked = time.monotonic()
            self._used = await asyncio.to_thread(lambda: sum(file.size for file in self.files.all()))

    def begin(self, model: str, request_id: bytes, size: int) -> Upload:
        """The file for the body of about `size` bytes of a job. Raises QueueFull."""
        self.reserve(size)
        try:
            file, ref = self.files.create(model, request_id.decode(), BODY)
        except OSError as error:
            self._used -= size
            raise QueueFull(f"The body of a job cannot be kept: {error}.") from None
        return Upload(self, file, ref, size)

    def reserve(self, size: int) -> None:
        """Counts bytes that are about to come. Raises QueueFull where there is no room for them."""
        if self._used + size > self._most:
            raise QueueFull(
                f"Bodies and answers of jobs take {self._used} bytes of files; there is no room for {size} "
                f"more (max_job_payload_bytes: {self._most})."
            )
        with contextlib.suppress(FileNotFoundError):  # it is made with the first file
            found = os.statvfs(self.files.directory)
            if found.f_bavail * found.f_frsize < size + KEPT_FREE:
                raise QueueFull(
                    f"The file system of {self.files.directory} (job_payload_dir) has no room for {size} "
                    "bytes more."
                )
        self._used += size

    async def add(self, model: str, request_id: bytes, body: bytes) -> Upload:
        """The file with a body that is complete. Raises QueueFull."""
        await self.look()
        upload = self.begin(model, request_id, len(body))
        try:
            upload.write(body)
        except QueueFull:
            self.discard(upload)
            raise
        upload.close()
        return upload

    async def sync(self, upload: Upload) -> None:
        """Returns when the body is on the disk. Raises QueueFull."""
        try:
            await asyncio.to_thread(self.files.sync, upload.ref)
        except OSError as error:
            self.discard(upload)
            raise QueueFull(f"The body of a job cannot be kept: {error}.") from None

    def discard(self, upload: Upload) -> None:
        """Removes the file of a job that was not queued."""
        upload.close()
        self._used -= upload.reserved
        self.files.remove(upload.ref)
