"""The payload files of this host: large bodies and answers, which do not travel through Redis.

The directory has a folder for each process that answers clients. The process keeps its folder locked, so a
folder without a lock belongs to a process that has ended, and `sweep` removes it.
"""

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import re
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from marq.payloads import job_files
from marq.payloads.files import NEW_FILE, PLAIN, PayloadLost, is_own, load, lost, write_all
from marq.payloads.job_files import JobFiles

if TYPE_CHECKING:
    from marq.settings.fields import Settings  # replicas have no pydantic

log = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of this user's own is made there
LEAST_SHARED_MEMORY = 2**30  # bytes; containers often have 64 MiB
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
REF = re.compile(rb"[0-9a-f]{32}/[0-9A-Za-z-]{1,64}(\.[0-9a-f]{8})?")
FOLDER_DIGITS, TAG_DIGITS = 32, 8  # of the name of a folder; its last ones are the tag of its place
POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux
UNFINISHED = "new-"  # begins the name of a folder that is not locked yet
UNFINISHED_S = 60.0  # no process takes so long to lock its folder


def is_ref(value: bytes) -> bool:
    """Whether a value can be the reference of a file: `FOLDER/NAME`, or that of a file of jobs."""
    return REF.fullmatch(value) is not None or job_files.is_ref(value)


@dataclass(frozen=True)
class Place:
    """The directory of this host's payload files. Processes that have the same one share their files."""

    directory: Path
    threshold: int  # a larger body or answer is a file
    most: int  # bytes of all bodies of one process
    jobs: JobFiles | None = None  # where those of jobs are; the other methods are about predictions

    @classmethod
    def of(cls, settings: "Settings") -> "Place | None":
        """The place that the settings name; None where payloads are not to be files."""
        if not settings.payload_threshold:
            return None
        directory = settings.payload_dir or default_directory(settings.state_dir)
        return cls(
            directory.absolute(),
            settings.payload_threshold,
            settings.max_payload_bytes,
            JobFiles.of(settings),
        )

    @property
    def identity(self) -> str:
        """Equal for two processes only if they see the same directory of the same host.

        Empty where the directory cannot be used.
        """
        try:
            found = self.make().stat()
        except OSError as error:
            log.debug("payloads do not become files: %s", error)
            return ""
        return f"{_boot()}:{found.st_dev}:{found.st_ino}"

    def folder_of(self, stream: bytes) -> str:
        """The folder of the process that reads a reply stream. Raises OSError."""
        return hashlib.sha256(stream).hexdigest()[: FOLDER_DIGITS - TAG_DIGITS] + self._tag

    def is_elsewhere(self, ref: bytes) -> bool:
        """Whether a reference, also of a job's file, names one of another host. Raises OSError."""
        if job_files.is_ref(ref):
            return self.jobs is None or not self.jobs.owns(ref)
        return ref.partition(b"/")[0][-TAG_DIGITS:].decode(errors="replace") != self._tag

    @cached_property
    def _tag(self) -> str:
        """Of this file system of this host: the same when the directory has been removed and made again."""
        where = f"{_boot()}:{self.make().stat().st_dev}"
        return hashlib.sha256(where.encode()).hexdigest()[:TAG_DIGITS]

    def make(self) -> Path:
        """The directory, made unless it exists. Raises OSError, also where it is not this user's own."""
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(parents=True, mode=0o700)
        if not is_own(self.directory):
            raise PermissionError(f"{self.directory} is not a directory of this user alone")
        return self.directory

    def read(self, ref: bytes) -> bytes:
        """The bytes of a file. Raises PayloadLost."""
        try:
            with self._open(ref) as file:
                return file.read()
        except OSError as error:
            raise lost(error) from None

    def map(self, ref: bytes) -> memoryview:
        """The same without a copy; the file may be removed meanwhile. Raises PayloadLost."""
        try:
            with self._open(ref) as file:
                return memoryview(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | POPULATE, mmap.PROT_READ))
        except (OSError, ValueError) as error:
            raise lost(error) from None

    def load(self, ref: bytes) -> bytearray:
        """The same, copied once; also of a job's file. Raises PayloadLost."""
        if self.jobs and job_files.is_ref(ref):
            return self.jobs.load(ref)
        return load(self._path(ref))

    def _open(self, ref: bytes) -> FileIO:
        return open(self._path(ref), "rb", buffering=0)  # noqa: PTH123 - the cheapest way

    def deposit(self, stream: bytes, request_id: bytes, parts: bytes) -> bytes:
        """Writes an answer for the process that reads `stream`; returns its reference.

        Empty where that process does not share this directory, or the file system is full: then the answer
        travels through Redis.
        """
        try:
            return self.put(self.folder_of(stream), request_id, parts)
        except OSError:
            return b""

    def put(self, folder: str, request_id: bytes, parts: bytes) -> bytes:
        """Writes an answer into a folder of this directory; returns its reference.

        Empty where the folder is not here, or the file system is full.
        """
        if not PLAIN.fullmatch(request_id):
            return b""
        ref = f"{folder}/{request_id.decode()}.{secrets.token_hex(4)}".encode()
        try:
            if self.is_elsewhere(ref):
                return b""
            path = self._path(ref)
            file = os.open(path, NEW_FILE, 0o600)
        except (OSError, PayloadLost):  # the name of the folder may come from outside
            return b""
        try:
            write_all(file, parts)
        except OSError as error:
            log.warning("the answer to request %s goes through Redis: %s", request_id.decode(), error)
            with contextlib.suppress(OSError):
                Path(path).unlink()
            return b""
        finally:
            os.close(file)
        return ref

    def sweep(self) -> int:
        """Removes the folders of processes that have ended; returns how many there were."""
        removed = 0
        with contextlib.suppress(OSError):
            for folder in os.scandir(self.directory):
                if folder.is_dir(follow_symlinks=False) and not _is_being_made(folder):
                    removed += _remove_abandoned(folder.path)
        return removed

    def _path(self, ref: bytes) -> str:
        """Raises PayloadLost for a text that is not a reference: it may come from outside."""
        if not REF.fullmatch(ref):
            raise PayloadLost("The reference of a body is not one.")
        return f"{self.directory}/{ref.decode()}"


def default_directory(state_dir: Path) -> Path:
    """A directory of this user in shared memory; in the state directory where that is small or missing."""
    own = SHARED_MEMORY / f"marq-{os.getuid()}"
    with contextlib.suppress(OSError):
        size = os.statvfs(SHARED_MEMORY)
        large = size.f_blocks * size.f_frsize >= LEAST_SHARED_MEMORY
        if large and os.access(SHARED_MEMORY, os.W_OK | os.X_OK) and (not own.exists() or is_own(own)):
            return own
    return state_dir / "payloads"


def _is_being_made(folder: os.DirEntry[str]) -> bool:
    """Whether a process may be about to lock it."""
    age_s = time.time() - folder.stat(follow_symlinks=False).st_mtime
    return folder.name.startswith(UNFINISHED) and age_s < UNFINISHED_S


def _remove_abandoned(folder: str) -> bool:
    """Removes a folder that no process has locked."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(lock)


def _boot() -> str:
    """The start of this machine's kernel, or the machine's name where the kernel does not number them."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()
