"""What a replica is doing right now, in memory that its pool can read even after the replica was killed.

It tells the pool which requests were being run when a replica died (only those may be to blame), and since
when a batch is running (for the response time-out), without a message for each batch.
"""

import mmap
import struct
import time
from pathlib import Path

LOADING, READY, DRAINING = range(3)
STATE_NAMES = ("loading", "ready", "draining")

_HEADER = struct.Struct("=IIdQQ")  # state, running, batch began (monotonic s), requests, batches
_STATE, _STATE_AT = struct.Struct("=I"), 0
_RUNNING, _RUNNING_AT = struct.Struct("=Id"), 4
_COUNTS, _COUNTS_AT = struct.Struct("=QQ"), 16
ENTRY_BYTES = 256  # the longest lane and entry id: names and versions are limited at registration


class Scoreboard:
    """A small file mapped by the replica, which writes it, and by its pool, which reads it."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @classmethod
    def create(cls, path: Path, batch_size: int) -> "Scoreboard":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(_HEADER.size + ENTRY_BYTES * (batch_size + 1)))
        return cls(path)

    # the replica's side

    def enter(self, state: int) -> None:
        _STATE.pack_into(self._map, _STATE_AT, state)

    def begin(self, entries: list[bytes]) -> None:
        """Notes that these entries, each as `LANE ENTRY`, are being run from now on."""
        text = b"\n".join(entries)
        self._map[_HEADER.size : _HEADER.size + len(text)] = text
        _RUNNING.pack_into(self._map, _RUNNING_AT, len(text), time.monotonic())

    def end(self, rows: int) -> None:
        """Notes that nothing is being run, and counts the batch."""
        _RUNNING.pack_into(self._map, _RUNNING_AT, 0, 0.0)
        _, _, _, requests, batches = self._header()
        _COUNTS.pack_into(self._map, _COUNTS_AT, requests + rows, batches + 1)

    # the pool's side

    @property
    def state(self) -> int:
        return self._header()[0]

    @property
    def counts(self) -> tuple[int, int]:
        """(requests, batches) run so far."""
        _, _, _, requests, batches = self._header()
        return requests, batches

    @property
    def running(self) -> list[str]:
        """The stream entries (`LANE ENTRY`) that are being run, or were when the replica died."""
        length = self._header()[1]
        return bytes(self._map[_HEADER.size : _HEADER.size + length]).decode().splitlines()

    @property
    def busy_s(self) -> float:
        """For how long the current batch has been running; 0 if none is."""
        _, length, began, *_ = self._header()
        return time.monotonic() - began if length and began else 0.0

    def _header(self) -> tuple[int, int, float, int, int]:
        return _HEADER.unpack_from(self._map, 0)
