"""One entry of an archive, whatever its format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from archive.errors import InvalidArchive
from archive.formats.limits import METADATA_BYTES

Kind = Literal["file", "directory", "symlink", "hardlink"]


def no_chunks() -> Iterator[bytes]:
    """The content of a directory or link."""
    return iter(())


@dataclass(frozen=True)
class Member:
    """`name` is relative and leads nowhere outside; `target` is set for links only.

    `chunks` yields the content in bounded pieces. It may be called once, and only before the next member is
    asked for. It raises InvalidArchive if the content is damaged, UnsafeArchive if it exceeds the limits.
    """

    name: str
    kind: Kind
    chunks: Callable[[], Iterator[bytes]] = no_chunks
    target: str = ""

    def read(self) -> bytes:
        """The whole content of a small file. Raises InvalidArchive if it is larger than METADATA_BYTES."""
        content = bytearray()
        for chunk in self.chunks():
            content += chunk
            if len(content) > METADATA_BYTES:
                raise InvalidArchive(f"{self.name} is too large; allowed are {METADATA_BYTES} bytes.")
        return bytes(content)
