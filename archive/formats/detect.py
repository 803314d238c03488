"""Which reader an archive needs. Only its name decides, as in TorchServe."""

from collections.abc import Iterator
from pathlib import Path

from archive.errors import ArchiveNotFound, InvalidArchive
from archive.formats import folder, tar
from archive.formats import zip as zip_file
from archive.formats.limits import Limits
from archive.formats.member import Member


def members(path: Path, limits: Limits) -> Iterator[Member]:
    """The members of the archive or directory. Raises ArchiveNotFound, InvalidArchive, UnsafeArchive."""
    if path.is_dir():
        return folder.members(path, limits)
    check_file(path)
    if path.name.endswith((".mar", ".war")):
        return zip_file.members(path, limits)
    return tar.members(path, limits)


def check_file(path: Path) -> None:
    """Raises ArchiveNotFound if nothing is there, InvalidArchive if it is not a regular file."""
    if not path.exists():
        raise ArchiveNotFound(f"Model not found at: {path}")
    if not path.is_file():
        raise InvalidArchive(f"{path} is neither a file nor a directory.")
