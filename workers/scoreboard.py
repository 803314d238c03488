"""The present state of a replica, in memory that its pool can read even after the replica was killed.

The pool finds there which requests were running when a replica died (only those may be to blame), and when
the running batch began (for the response time-out). No message is sent for a batch.
"""

import contextlib
import mmap
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from marq.queue.entries import EntryRef, Request

LOADING, READY, DRAINING = range(3)
STATE_NAMES = ("loading", "ready", "draining")

SUFFIX, UNFINISHED = ".board", ".part"
_HEADER = struct.Struct("=IIdQQI")  # state, running, batch began (monotonic s), requests, batches, row limit
_STATE, _STATE_AT = struct.Struct("=I"), 0
_RUNNING, _RUNNING_AT = struct.Struct("=Id"), 4
_COUNTS, _COUNTS_AT = struct.Struct("=QQ"), 16
_ROW_LIMIT, _ROW_LIMIT_AT = struct.Struct("=I"), 32
ENTRY_BYTES = 256  # the longest lane and entry id: names and versions are limited at registration


class Scoreboard:
    """A small file mapped by the replica, which writes it, and by its pool, which reads it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @classmethod
    def create(cls, path: Path, rows: int) -> "Scoreboard":
        """A board with room for as many rows as the replica runs at a time.

        The file appears complete or not at all: a full disk or a kill leaves no empty one.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(UNFINISHED)
        part.write_bytes(bytes(_HEADER.size + ENTRY_BYTES * (rows + 1)))
        part.replace(path)
        return cls(path)

    @classmethod
    def read(cls, path: Path) -> "Scoreboard | None":
        """The board of a replica that may have ended; None where its file is missing or damaged."""
        try:
            board = cls(path)
            board.running  # noqa: B018 - raises where the file is too short
        except (OSError, ValueError, TypeError, struct.error):
            return None
        return board

    def remove(self) -> None:
        """Removes the file; processes that have mapped it can still use it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def enter(self, state: int) -> None:
        _STATE.pack_into(self._map, _STATE_AT, state)

    def begin(self, rows: Iterable[Request], since: float | None = None) -> None:
        """Notes that these rows have been running since then (monotonic s; default: now)."""
        text = "\n".join([f"{row.lane} {row.entry.decode()}" for row in rows]).encode()
        self._map[_HEADER.size : _HEADER.size + len(text)] = text
        _RUNNING.pack_into(self._map, _RUNNING_AT, len(text), since or self._clock())

    def touch(self) -> None:
        """Notes a sign of life: the response time-out counts from now on."""
        length = self._header()[1]
        _RUNNING.pack_into(self._map, _RUNNING_AT, length, self._clock())

    def end(self, rows: int) -> None:
        """Notes that no batch is running, and counts the last one."""
        _RUNNING.pack_into(self._map, _RUNNING_AT, 0, 0.0)
        self.count(rows)

    def count(self, rows: int) -> None:
        """Counts a batch that was run."""
        requests, batches = self.counts
        _COUNTS.pack_into(self._map, _COUNTS_AT, requests + rows, batches + 1)

    def limit_rows(self, rows: int) -> None:
        """Notes the maximum number of rows that fit into the device's memory; 0: no limit is known."""
        _ROW_LIMIT.pack_into(self._map, _ROW_LIMIT_AT, rows)

    @property
    def state(self) -> int:
        return self._header()[0]

    @property
    def counts(self) -> tuple[int, int]:
        """(requests, batches) run so far."""
        return self._header()[3:5]

    @property
    def running(self) -> list[EntryRef]:
        """The entries that are running, or were when the replica died."""
        length = self._header()[1]
        lines = bytes(self._map[_HEADER.size : _HEADER.size + length]).splitlines()
        return [EntryRef(*line.rsplit(b" ", 1)) for line in lines]

    @property
    def busy_s(self) -> float:
        """For how long the current batch has been running; 0.0 without one."""
        _, length, began, *_ = self._header()
        return self._clock() - began if length and began else 0.0

    @property
    def row_limit(self) -> int:
        """The maximum number of rows that fit into the device's memory; 0: no limit is known."""
        return self._header()[5]

    def _header(self) -> tuple[int, int, float, int, int, int]:
        return _HEADER.unpack_from(self._map, 0)


def path_of(directory: Path, pool: str, slot: int) -> Path:
    return directory / f"{pool}.{slot}{SUFFIX}"


def remove_if(directory: Path, is_unused: Callable[[str], bool]) -> None:
    """Removes the boards, also unfinished ones, of the pools for whose names this is true."""
    with contextlib.suppress(OSError):
        for file in directory.iterdir():
            pool, _, slot = file.stem.rpartition(".")
            if file.suffix in (SUFFIX, UNFINISHED) and slot.isdigit() and is_unused(pool):
                file.unlink(missing_ok=True)
