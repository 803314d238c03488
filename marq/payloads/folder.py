"""The payload files of one process that answers clients: bodies of its requests, and answers to them."""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Callable
from typing import Protocol, Self

from marq.errors import QueueFull
from marq.payloads.files import NEW_FILE, PLAIN, PayloadLost, write_all
from marq.payloads.place import UNFINISHED, Place

log = logging.getLogger(__name__)

KEPT_FREE = 16 << 20  # bytes of the file system


class Room(Protocol):
    """Counts the bytes of files."""

    def reserve(self, size: int, /) -> None:
        """Counts bytes that are about to come. Raises QueueFull where there is no room for them."""


class Upload:
    """A body that is written while it arrives. It belongs to its folder, which closes and removes it."""

    __slots__ = ("_file", "_folder", "ref", "reserved", "size")

    def __init__(self, folder: Room, file: int, ref: bytes, reserved: int) -> None:
        self._folder, self._file, self.ref, self.reserved = folder, file, ref, reserved
        self.size = 0  # bytes so far

    def write(self, data: bytes) -> None:
        """Raises QueueFull where there is no room for more than was announced, or the file system is full."""
        size = self.size + len(data)
        if size > self.reserved:
            self._folder.reserve(size - self.reserved)
            self.reserved = size
        try:
            write_all(self._file, data)
        except OSError as error:
            raise QueueFull(f"A request's body cannot be kept: {error}.") from None
        self.size = size

    def close(self) -> None:
        """The body is complete, or is not wanted any more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Folder:
    """Made and locked at the start, removed by `close`; `Place.sweep` removes it after a crash.

    The reader of the reply stream `stream` has it. Not for use by several threads.
    """

    def __init__(self, place: Place, name: str) -> None:
        """Raises OSError."""
        self.place, self.name = place, name  # that of its directory
        self.bodies: dict[bytes, Upload] = {}  # by request id, until the request has ended
        self.held = 0  # bytes of them
        self._unknown: set[str] = set()  # files of no pending request, at the last look
        self._lock = -1
        self._open()

    @classmethod
    def opened(cls, place: Place, stream: bytes) -> Self | None:
        """The folder of a reply stream; None where there can be none: payloads travel through Redis then."""
        try:
            place.sweep()
            return cls(place, place.folder_of(stream))
        except OSError as error:
            log.warning("large bodies travel through Redis, not as files in %s: %s", place.directory, error)
            return None

    def _open(self) -> None:
        """A folder without a lock would be swept: it gets its name when it is locked."""
        directory = self.place.make()
        new = directory / f"{UNFINISHED}{secrets.token_hex(8)}"
        new.mkdir(mode=0o700)
        try:
            lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(directory / self.name)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = lock

    def begin(self, request_id: bytes, size: int) -> Upload:
        """The file for a request's body of about `size` bytes. Raises QueueFull."""
        if not PLAIN.fullmatch(request_id):
            raise ValueError(f"{request_id!r:.80} cannot be the name of a file")
        self.reserve(size)
        name = request_id.decode()
        try:
            try:
                file = os.open(name, NEW_FILE, 0o600, dir_fd=self._lock)
            except FileNotFoundError:  # the folder was removed
                self._open()
                file = os.open(name, NEW_FILE, 0o600, dir_fd=self._lock)
        except OSError as error:
            self.held -= size
            raise QueueFull(f"A request's body cannot be kept: {error}.") from None
        made = self.bodies[request_id] = Upload(self, file, f"{self.name}/{name}".encode(), size)
        return made

    def add(self, request_id: bytes, body: bytes) -> Upload:
        """The file with a body that is complete. Raises QueueFull."""
        upload = self.begin(request_id, len(body))
        try:
            upload.write(body)
        except QueueFull:
            self.discard(request_id)
            raise
        upload.close()
        return upload

    def reserve(self, size: int) -> None:
        """Counts bytes that are about to come. Raises QueueFull where there is no room for them."""
        most = self.place.most
        if self.held + size > most:
            raise QueueFull(
                f"Bodies of {self.held} bytes wait in files; there is no room for {size} more "
                f"(max_payload_bytes: {most})."
            )
        found = os.fstatvfs(self._lock)
        coming = self.held - sum(upload.size for upload in self.bodies.values())
        if found.f_bavail * found.f_frsize < coming + size + KEPT_FREE:
            raise QueueFull(
                f"The file system of {self.place.directory} (payload_dir) has no room for {size} bytes more."
            )
        self.held += size

    def discard(self, request_id: bytes) -> None:
        """Removes the file of a request that has ended, if it has one."""
        upload = self.bodies.pop(request_id, None)
        if upload is not None:
            self.held -= upload.reserved
            upload.close()
            self._unlink(request_id.decode())

    def discard_all(self, request_id: bytes) -> None:
        """Removes all files of a request that has ended, also answers that were not taken."""
        self.discard(request_id)
        with contextlib.suppress(OSError):
            for name in os.listdir(self._lock):  # noqa: PTH208 - of the open folder
                if name.partition(".")[0].encode() == request_id:
                    self._unlink(name)

    def take(self, ref: bytes) -> bytes:
        """Reads an answer and removes its file. Raises PayloadLost, also for a file of another folder."""
        name = self._own(ref)
        content = self.place.read(ref)
        self._unlink(name)
        return content

    def take_mapped(self, ref: bytes) -> memoryview:
        """The same without a copy."""
        name = self._own(ref)
        content = self.place.map(ref)
        self._unlink(name)
        return content

    def _own(self, ref: bytes) -> str:
        """The name of a file of this folder. Raises PayloadLost."""
        folder, _, name = ref.decode(errors="replace").partition("/")
        if folder != self.name:
            raise PayloadLost("The reference of an answer names another process's file.")
        return name

    def tidy(self, is_pending: Callable[[bytes], bool]) -> None:
        """Removes the files of requests that have ended, if they were there at the last call, too.

        A replica that ends between the writing of an answer and its reply leaves one.
        """
        before, self._unknown = self._unknown, set()
        with contextlib.suppress(OSError):
            for name in os.listdir(self._lock):  # noqa: PTH208 - of the open folder
                request_id = name.partition(".")[0].encode()
                if is_pending(request_id) or request_id in self.bodies:
                    continue
                if name in before:
                    self._unlink(name)
                else:
                    self._unknown.add(name)

    def close(self) -> None:
        """Removes the folder with all its files."""
        for request_id in list(self.bodies):
            self.discard(request_id)
        shutil.rmtree(self.place.directory / self.name, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._lock)
