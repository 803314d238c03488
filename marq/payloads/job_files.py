"""The payload files of jobs: large bodies and answers, which last as long as the job's record needs them.

Their store is a directory of its own, beside the data of the embedded server, so they survive what the queue
survives. It has a lasting id, a folder for each model, and in it a file for each body and each answer.
"""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from marq.payloads.files import NEW_FILE, PLAIN, is_own, load, lost, write_all

if TYPE_CHECKING:
    from marq.settings.fields import Settings  # replicas have no pydantic

REF = re.compile(rb"job-[0-9a-f]{16}/[0-9a-f]{16}/[0-9A-Za-z-]{1,64}\.[ab][0-9a-f]{8}")
BODY, ANSWER = "b", "a"
ID, MODEL = "id", "model"  # files with the id of the store, and with the model of a folder


class Stored(NamedTuple):
    """One file of a store."""

    model: str
    request_id: str  # of the job that it was written for
    ref: bytes
    is_body: bool
    written: float  # unix s
    size: int


def is_ref(value: bytes) -> bool:
    """Whether a value can be the reference of a job's file: `STORE/FOLDER/NAME`."""
    return REF.fullmatch(value) is not None


def store_of(ref: bytes) -> str:
    """The id of the store that a reference names."""
    return ref.partition(b"/")[0].decode()


def request_id_of(ref: bytes) -> bytes:
    """The id of the job that a file was written for."""
    return ref.rpartition(b"/")[2].partition(b".")[0]


@dataclass(frozen=True)
class JobFiles:
    """One store. Processes that have the same directory share it, also those of several hosts."""

    directory: Path
    threshold: int  # a larger body or answer is a file

    @classmethod
    def of(cls, settings: "Settings") -> "JobFiles | None":
        """The store that the settings name; None where jobs are kept in Redis whole."""
        if not settings.payload_threshold or not settings.job_payload_dir:
            return None
        return cls(settings.job_payload_dir.absolute(), settings.payload_threshold)

    @classmethod
    def found(cls, directory: bytes | None) -> "JobFiles":
        """A store to read from, by the directory in `keys.JOB_STORES`.

        Raises PayloadLost where it is not on this host.
        """
        path = Path((directory or b"").decode())
        if not directory or not (path / ID).is_file():
            raise lost(FileNotFoundError())
        return cls(path, 0)

    @property
    def identity(self) -> str:
        """The id of the store, made with it; empty where the directory cannot be used."""
        try:
            return self._id
        except OSError:
            return ""

    @cached_property
    def _id(self) -> str:
        """Raises OSError."""
        self._make()
        path = self.directory / ID
        if not path.exists():
            self._write_once(path, f"job-{secrets.token_hex(8)}")
        return path.read_text()

    def _make(self) -> None:
        """Raises OSError, also where the directory is not this user's own."""
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(parents=True, mode=0o700)
        if not is_own(self.directory):
            raise PermissionError(f"{self.directory} is not a directory of this user alone")

    def _write_once(self, path: Path, text: str) -> None:
        """The first of several processes that do so at once has its text in the file."""
        new = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
        file = os.open(new, NEW_FILE, 0o600)
        try:
            write_all(file, text.encode())
            os.fsync(file)
            with contextlib.suppress(FileExistsError):
                os.link(new, path)
        finally:
            os.close(file)
            new.unlink()

    def create(self, model: str, request_id: str, kind: str) -> tuple[int, bytes]:
        """A new file, open for writing, and its reference.

        Raises OSError, and ValueError for an id that cannot be part of a name.
        """
        if not PLAIN.fullmatch(request_id.encode()):
            raise ValueError(f"{request_id!r:.80} cannot be the name of a file")
        store, folder = self._id, hashlib.sha256(model.encode()).hexdigest()[:16]
        ref = f"{store}/{folder}/{request_id}.{kind}{secrets.token_hex(4)}".encode()
        path = self.path(ref)
        try:
            return os.open(path, NEW_FILE, 0o600), ref
        except FileNotFoundError:
            self._make_folder(self.directory / folder, model)
            return os.open(path, NEW_FILE, 0o600), ref

    def _make_folder(self, folder: Path, model: str) -> None:
        self._make()
        self._write_once(self.directory / ID, self._id)  # the directory may have been removed meanwhile
        new = self.directory / f"new-{secrets.token_hex(8)}"
        new.mkdir(mode=0o700)
        (new / MODEL).write_text(model)
        _sync(new / MODEL)
        try:
            new.rename(folder)
        except OSError:  # another process has just made it
            shutil.rmtree(new)
        _sync(self.directory)

    def keep(self, model: str, request_id: str, answer: bytes) -> bytes:
        """Writes an answer to the disk; returns its reference. Raises OSError and ValueError."""
        file, ref = self.create(model, request_id, ANSWER)
        try:
            write_all(file, answer)
            self.sync(ref)
        except OSError:
            self.remove(ref)
            raise
        finally:
            os.close(file)
        return ref

    def sync(self, ref: bytes) -> None:
        """Returns when a file and its name are on the disk. Raises OSError."""
        path = Path(self.path(ref))
        _sync(path)
        _sync(path.parent)

    def owns(self, ref: bytes) -> bool:
        """Whether a reference names a file of this store."""
        return is_ref(ref) and store_of(ref) == self.identity

    def path(self, ref: bytes) -> str:
        """Raises PayloadLost for a reference of another store, or none at all: it may come from outside."""
        if not self.owns(ref):
            raise lost(FileNotFoundError())
        return f"{self.directory}/{ref.decode().partition('/')[2]}"

    def size(self, ref: bytes) -> int:
        """The bytes of a file. Raises PayloadLost and OSError."""
        return Path(self.path(ref)).stat().st_size

    def load(self, ref: bytes) -> bytearray:
        """The bytes of a file. Raises PayloadLost."""
        return load(self.path(ref))

    def remove(self, ref: bytes) -> None:
        with contextlib.suppress(OSError):
            Path(self.path(ref)).unlink(missing_ok=True)

    def all(self) -> Iterator[Stored]:
        """All files. Those that are removed meanwhile may be left out."""
        with contextlib.suppress(OSError):
            for folder in list(self.directory.iterdir()):
                with contextlib.suppress(OSError):
                    yield from self._of_folder(folder)

    def _of_folder(self, folder: Path) -> Iterator[Stored]:
        model = (folder / MODEL).read_text()
        for entry in os.scandir(folder):
            ref = f"{self._id}/{folder.name}/{entry.name}".encode()
            if is_ref(ref):
                request_id, _, tag = entry.name.partition(".")
                found = entry.stat(follow_symlinks=False)
                yield Stored(model, request_id, ref, tag[0] == BODY, found.st_mtime, found.st_size)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
