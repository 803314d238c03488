"""Members of `.mar` files: zip archives with stored and deflated entries."""

import errno
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.errors import InvalidArchive, UnsafeArchive
from archive.formats.limits import CHUNK_BYTES, MIB, Budget, Limits
from archive.formats.member import Kind, Member
from archive.formats.names import check_link, safe_name

_ENCRYPTED = 0x1
_CENTRAL_ENTRY_BYTES = 160  # generous for one entry's record in the central directory
_MAX_TARGET_BYTES = 4096


def members(path: Path, limits: Limits) -> Iterator[Member]:
    """The members in the order of the central directory; the declared sizes are checked before the first."""
    budget = limits.budget(path.stat().st_size)
    with _CappedFile(path, 2 * MIB + limits.entries * _CENTRAL_ENTRY_BYTES) as file, _damage_told(path):
        archive = zipfile.ZipFile(file)
        budget.require(sum(info.file_size for info in archive.infolist()))
        for info in archive.infolist():
            if member := _member(_Entry(path, archive, info, budget)):
                budget.enter(member.name)
                yield member


class _CappedFile(io.FileIO):
    """A file that refuses to read a huge piece, such as a central directory, at once."""

    def __init__(self, path: Path, cap: int) -> None:
        super().__init__(path)
        self._cap = cap

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = self._cap + 1
        data = super().read(min(size, self._cap + 1)) or b""
        if len(data) > self._cap:
            raise UnsafeArchive(
                "The archive's table of contents is larger than its number of files may need."
            )
        return data


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Turns the errors of `zipfile` for damaged input into InvalidArchive."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise _invalid(path, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset before the start of the file
            raise
        raise _invalid(path, error) from error
    except (ArithmeticError, EOFError, LookupError, RuntimeError, ValueError) as error:
        raise _invalid(path, error) from error


def _invalid(path: Path, error: Exception) -> InvalidArchive:
    cause = str(error) or type(error).__name__
    return InvalidArchive(f"{path.name} is not a readable zip archive: {cause}. Is the file complete?")


class _Entry:
    """An entry of the central directory with the facts needed to read it."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> None:
        self.info = info
        self._path = path
        self._archive = archive
        self._budget = budget

    def chunks(self) -> Iterator[bytes]:
        left = self.info.file_size
        with _damage_told(self._path), self._archive.open(self.info) as content:
            while data := content.read(CHUNK_BYTES):
                left -= len(data)
                self._budget.take(len(data))
                yield data
        if left:
            raise InvalidArchive(f"{self.info.filename} in {self._path.name} has not the size it declares.")

    def target(self) -> str:
        if self.info.file_size > _MAX_TARGET_BYTES:
            raise UnsafeArchive(f"The link {self.info.filename} is longer than {_MAX_TARGET_BYTES} bytes.")
        return b"".join(self.chunks()).decode()


def _member(entry: _Entry) -> Member | None:
    """None for an entry of the root directory itself."""
    info = entry.info
    name = safe_name(info.orig_filename)  # `filename` ends at the first NUL
    _check_readable(info)
    kind = _kind(info)
    if not name and kind == "directory":
        return None
    if not name:
        raise InvalidArchive(f"The archive member {info.filename!r} has no name.")
    if kind == "symlink":
        target = entry.target()
        check_link(name, target)
        return Member(name, kind, target=target)
    return Member(name, kind, entry.chunks) if kind == "file" else Member(name, kind)


def _check_readable(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise InvalidArchive(f"{info.filename} is encrypted; model archives must not be.")
    # Others are refused not only because TorchServe does: an LZMA header may ask for 4 GiB of memory.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidArchive(
            f"{info.filename} is compressed by method {info.compress_type}; use store or deflate."
        )


def _kind(info: zipfile.ZipInfo) -> Kind:
    if info.is_dir():
        return "directory"
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "symlink"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise UnsafeArchive(f"{info.filename} is a device, pipe or socket; only files and links are allowed.")
    return "file"
