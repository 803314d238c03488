"""Writes members below a new directory and nowhere else."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from archive.errors import InvalidArchive
from archive.formats.member import Member
from archive.formats.names import leads_out

_IMPOSSIBLE = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


class Tree:
    """The unpacked form of one archive; `root` is created and must not exist.

    Links are created by `finish`, after all files, so that no file is ever written through one. Of members
    with the same name the last one stays.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._root = root
        self._links: dict[str, Member] = {}
        self.files = 0

    def add(self, member: Member) -> None:
        """Raises InvalidArchive if the member contradicts others; other OSErrors are the disk's."""
        if member.kind in ("symlink", "hardlink"):
            self._links[member.name] = member
            return
        self._links.pop(member.name, None)
        with _contradiction_told(member):
            if member.kind == "directory":
                self._path(member).mkdir(parents=True, exist_ok=True)
            else:
                self._write(member)
                self.files += 1

    def finish(self) -> None:
        """Creates the links. Raises UnsafeArchive if one leads out of the directory."""
        links = list(self._links.values())
        for link in links:
            with _contradiction_told(link):
                self._cleared(link)
        for link in links:
            if link.kind == "hardlink":
                self._hardlink(link)
        symlinks = [link for link in links if link.kind == "symlink"]
        for link in symlinks:
            with _contradiction_told(link):
                self._path(link).symlink_to(link.target)
        for link in symlinks:
            self._check_inside(link)

    def _path(self, member: Member) -> Path:
        return self._root / member.name

    def _cleared(self, member: Member) -> Path:
        path = self._path(member)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def _write(self, member: Member) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(self._cleared(member), flags, 0o644), "wb") as file:
            for data in member.chunks():
                file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave an empty file in a directory that is there

    def _hardlink(self, link: Member) -> None:
        source = self._root / link.target
        if not link.target or source.is_symlink() or not source.is_file():
            raise InvalidArchive(
                f"{link.name!r} is a hard link to {link.target!r}, which is not a file of the archive."
            )
        with _contradiction_told(link):
            os.link(source, self._path(link), follow_symlinks=False)

    def _check_inside(self, link: Member) -> None:
        path = self._path(link)
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root)):
            raise leads_out(link.name, link.target)
        with _contradiction_told(link), suppress(FileNotFoundError):
            path.stat()  # fails for links in a circle


@contextmanager
def _contradiction_told(member: Member) -> Iterator[None]:
    """Turns the file system's errors for contradicting members into InvalidArchive."""
    try:
        yield
    except OSError as error:
        if error.errno not in _IMPOSSIBLE:
            raise
        raise InvalidArchive(
            f"The archive member {member.name!r} cannot be created ({error.strerror}); "
            "another member needs its name for something else, or it is a link in a circle."
        ) from error
