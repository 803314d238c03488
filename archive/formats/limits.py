"""Limits of unpacking, and the count of unpacked members and bytes."""

import posixpath
from dataclasses import dataclass

from archive.errors import UnsafeArchive

MIB = 1024 * 1024
CHUNK_BYTES = MIB  # maximum of a member in memory
METADATA_BYTES = MIB  # maximum of a manifest, a model-config.yaml or a tar's extended header


@dataclass(frozen=True)
class Limits:
    """The bounds beyond which an archive is refused as UnsafeArchive.

    `ratio` bounds unpacked bytes per byte of the archive file. It is judged only above `ratio_from_bytes`,
    because small archives of text or of zeros compress better than any bound that would still protect.
    """

    entries: int = 100_000  # members and the directories they need
    total_bytes: int = 64 * 1024 * MIB
    ratio: float = 200.0
    ratio_from_bytes: int = 256 * MIB

    def budget(self, archive_bytes: int) -> "Budget":
        """A new count for one reading of an archive whose file has `archive_bytes` bytes."""
        by_ratio = max(self.ratio_from_bytes, int(self.ratio * archive_bytes))
        return Budget(self.entries, min(self.total_bytes, by_ratio))


DEFAULT_LIMITS = Limits()


class Budget:
    """Counts members and bytes of one reading. Its methods raise UnsafeArchive beyond the limit."""

    def __init__(self, entries: int, allowed_bytes: int) -> None:
        self._entries = entries
        self._allowed_bytes = allowed_bytes
        self._left_bytes = allowed_bytes
        self._members = 0
        self._directories: set[str] = set()

    def enter(self, name: str) -> None:
        """Counts a member and the directories that its name needs."""
        self._members += 1
        while (name := posixpath.dirname(name)) and name not in self._directories:
            self._directories.add(name)
        if self._members + len(self._directories) > self._entries:
            raise UnsafeArchive(
                f"The archive has more than {self._entries} files and directories; "
                "pack large collections of files into one file."
            )

    def take(self, size: int) -> None:
        """Counts unpacked bytes."""
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise UnsafeArchive(
                f"The archive unpacks to more than {self._allowed_bytes} bytes, "
                "the limit for a file of its size."
            )

    def require(self, size: int) -> None:
        """Raises UnsafeArchive if this number of further bytes would exceed the limit; counts nothing."""
        self.take(size)
        self._left_bytes += size
