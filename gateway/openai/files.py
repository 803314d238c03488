"""Files of batches: their bytes lie in the state directory of the host, their records in Redis."""

import asyncio
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from gateway.asgi import Document
from marq import keys
from marq.errors import ServiceError
from marq.queue.broker import Broker

FOLDER = "batch-files"  # in the state directory
LONGEST_S = 30 * 86_400  # how long a file is kept at most, and by default
MOST_FILES = 10_000
MOST_BYTES = 20 * 2**30  # of all files of a host
ORPHAN_S = 3600.0  # a file without a record is younger while it is written
UNFINISHED = ".part"
BATCH, OUTPUT = "batch", "batch_output"  # purposes


class FileNotKnown(ServiceError):
    """Raised for the id of a file that does not exist, or has expired."""

    status, type = 404, "FileNotFoundException"


class NoRoom(ServiceError):
    """Raised when the files take all the room that they may have."""

    status, type = 507, "InsufficientStorageException"


@dataclass(frozen=True)
class Unfinished:
    """A file that is being written."""

    file: BinaryIO
    path: Path

    def discard(self) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)


class Files:
    """The files of this host. Raises ServiceUnavailable while Redis cannot be reached."""

    def __init__(self, broker: Broker, state_dir: Path) -> None:
        self._broker, self._folder = broker, state_dir / FOLDER

    def path(self, file_id: str) -> Path:
        """The path of a file, if it is on this host. The id is one that a record has."""
        return self._folder / file_id

    def new(self, file_id: str, writer: str = "") -> Unfinished:
        """An unfinished file, to be written and then given to `add`. Raises NoRoom.

        Each `writer` has its own, so that two of them do not mix their bytes.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sizes = [entry.stat().st_size for entry in os.scandir(self._folder)]
        if len(sizes) >= MOST_FILES or sum(sizes) >= MOST_BYTES:
            raise NoRoom(
                f"{len(sizes)} files of batches take {sum(sizes)} bytes on this host; at most {MOST_FILES} "
                f"files and {MOST_BYTES} bytes are kept. Delete some: DELETE /v1/files/ID."
            )
        path = self._folder / f"{file_id}{writer}{UNFINISHED}"
        return Unfinished(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b"), path)

    async def add(
        self, written: Unfinished, file_id: str, name: str, purpose: str, keep_s: float = LONGEST_S
    ) -> Document:
        """Completes a file and writes its record. The same file may be added again."""
        now, file = time.time(), written.file
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
        size = file.tell()
        file.close()
        written.path.rename(self.path(file_id))
        record: Document = {
            "id": file_id, "object": "file", "bytes": size, "created_at": int(now),
            "expires_at": int(now + keep_s), "filename": name, "purpose": purpose, "status": "processed",
        }  # fmt: skip
        await self._broker.execute(
            "SET", keys.batch_file(file_id), orjson.dumps(record), "EXAT", record["expires_at"]
        )
        await self._broker.execute("ZADD", keys.BATCH_FILES, "NX", int(now * 1000), file_id)
        return record

    async def get(self, file_id: str) -> Document:
        """The record of a file. Raises FileNotKnown."""
        stored = await self._broker.execute("GET", keys.batch_file(file_id))
        if stored is None:
            raise FileNotKnown(f"There is no file {file_id:.100}.")
        found: Document = orjson.loads(stored)
        return found

    async def found(self, file_id: str) -> Path:
        """The path of a file of this host. Raises FileNotKnown, also if it is on another host."""
        await self.get(file_id)
        path = self.path(file_id)
        if not path.exists():
            raise FileNotKnown(f"File {file_id} is not on this host; ask the server that it was sent to.")
        return path

    async def delete(self, file_id: str) -> None:
        """Raises FileNotKnown."""
        if not await self._broker.execute("DEL", keys.batch_file(file_id)):
            raise FileNotKnown(f"There is no file {file_id:.100}.")
        await self._broker.execute("ZREM", keys.BATCH_FILES, file_id)
        self.path(file_id).unlink(missing_ok=True)

    async def all(self) -> list[Document]:
        """The records of all files, the newest first."""
        ids: Sequence[bytes] = await self._broker.execute("ZREVRANGE", keys.BATCH_FILES, 0, MOST_FILES)
        if not ids:
            return []
        stored = await self._broker.execute("MGET", *(keys.batch_file(each.decode()) for each in ids))
        return [orjson.loads(record) for record in stored if record is not None]

    async def sweep(self, used: Collection[str]) -> None:
        """Removes the files of this host that have no record any more, and the ids of expired records.

        Files that are used stay.
        """
        known = {*used, *(str(record["id"]) for record in await self.all())}
        before = int((time.time() - LONGEST_S) * 1000)
        await self._broker.execute("ZREMRANGEBYSCORE", keys.BATCH_FILES, "-inf", before)
        if not self._folder.is_dir():
            return
        for entry in list(os.scandir(self._folder)):
            if entry.name not in known and time.time() - entry.stat().st_mtime > ORPHAN_S:
                Path(entry.path).unlink(missing_ok=True)
