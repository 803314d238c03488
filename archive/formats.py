"""Which reader an archive needs. Only its name decides, as in TorchServe."""

from collections.abc import Iterator
from pathlib import Path

from archive import folder, tar_reader, zip_reader
from archive.errors import ArchiveNotFound, InvalidArchive
from archive.limits import Limits
from archive.member import Member


def members(path: Path, limits: Limits) -> Iterator[Member]:
    """The members of the archive or directory. Raises ArchiveNotFound, InvalidArchive, UnsafeArchive."""
    if path.is_dir():
        return folder.members(path, limits)
    check_file(path)
    if path.name.endswith(".mar"):
        return zip_reader.members(path, limits)
    return tar_reader.members(path, limits)


def check_file(path: Path) -> None:
    """Raises ArchiveNotFound if nothing is there, InvalidArchive if it is not a regular file."""
    if not path.exists():
        raise ArchiveNotFound(f"Model not found at: {path}")
    if not path.is_file():
        raise InvalidArchive(f"{path} is neither a file nor a directory.")
