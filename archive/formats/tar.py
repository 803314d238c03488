"""Members of gzip-compressed tar archives, read front to back.

`tarfile` serves to decode single headers only: it reads extended headers of any declared size into memory,
and it seeks, which a gzip file can do only by reading everything again.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from archive.errors import InvalidArchive, UnsafeArchive
from archive.formats.limits import CHUNK_BYTES, METADATA_BYTES, Budget, Limits
from archive.formats.member import Kind, Member
from archive.formats.names import check_link, safe_name

_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_USED_KEYS = (b"path", b"linkpath", b"size")
_LONG = {tarfile.GNUTYPE_LONGNAME: "path", tarfile.GNUTYPE_LONGLINK: "linkpath"}
_KINDS: dict[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}


def members(path: Path, limits: Limits) -> Iterator[Member]:
    """The members, their names without the first component, as TorchServe strips it."""
    budget = limits.budget(path.stat().st_size)
    with gzip.open(path) as file:
        stream = _Stream(file, budget, path.name)
        for header in _headers(stream):
            body = _Body(stream, header.size)
            if member := _member(header, body):
                budget.enter(member.name)
                yield member
            body.skip()
        stream.skip_to_end()


class _Stream:
    """The unpacked bytes, counted against the budget. Damage of any kind is an InvalidArchive."""

    def __init__(self, file: gzip.GzipFile, budget: Budget, name: str) -> None:
        self._file = file
        self._budget = budget
        self._name = name

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        try:
            data = self._file.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self.invalid(str(error)) from error
        self._budget.take(len(data))
        return data

    def chunks(self, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes in bounded pieces."""
        while size:
            data = self.read(min(size, CHUNK_BYTES))
            if not data:
                raise self.invalid("it ends within a member")
            size -= len(data)
            yield data

    def block(self) -> bytes:
        """The next header block; empty at the end, which is a zero block or the end of the file."""
        data = self.read(tarfile.BLOCKSIZE)
        if data and len(data) < tarfile.BLOCKSIZE:
            raise self.invalid("it ends within a header")
        return data if any(data) else b""

    def skip_to_end(self) -> None:
        """Reads the rest after the last member, because gzip's checksum is at the very end."""
        while self.read(CHUNK_BYTES):
            pass

    def invalid(self, cause: str) -> InvalidArchive:
        return InvalidArchive(
            f"{self._name} is not a readable gzip-compressed tar archive: {cause}. "
            "Is the file complete? (Files whose names end with .mar are read as zip, all others as tar.gz.)"
        )


class _Body:
    """A member's bytes. They follow its header, so unread ones have to be skipped."""

    def __init__(self, stream: _Stream, size: int) -> None:
        self._stream = stream
        self._left = size
        self._padding = -size % tarfile.BLOCKSIZE

    def chunks(self) -> Iterator[bytes]:
        for data in self._stream.chunks(self._left):
            self._left -= len(data)
            yield data

    def skip(self) -> None:
        for _ in self._stream.chunks(self._left + self._padding):
            pass


@dataclass(frozen=True)
class _Header:
    name: str
    kind: Kind
    target: str
    size: int


def _headers(stream: _Stream) -> Iterator[_Header]:
    """The header of each member, with the extended headers before it applied."""
    shared: dict[str, str] = {}
    own: dict[str, str] = {}
    while block := stream.block():
        info = _decode(stream, block)
        if info.type == tarfile.XGLTYPE:
            shared |= _records(stream, _metadata(stream, info.size))
        elif info.type in _EXTENDED:
            own |= _records(stream, _metadata(stream, info.size))
        elif key := _LONG.get(info.type):
            own[key] = _text(_metadata(stream, info.size).partition(b"\0")[0])
        else:
            yield _header(stream, info, shared | own)
            own = {}


def _decode(stream: _Stream, block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise stream.invalid(str(error)) from error
    if info.size < 0:
        raise stream.invalid("a member has a negative size")
    return info


def _metadata(stream: _Stream, size: int) -> bytes:
    if size > METADATA_BYTES:
        raise UnsafeArchive(f"The archive has an extended header of more than {METADATA_BYTES} bytes.")
    body = _Body(stream, size)
    data = b"".join(body.chunks())
    body.skip()
    return data


def _records(stream: _Stream, data: bytes) -> dict[str, str]:
    """The `<length> <key>=<value>\\n` records of a POSIX extended header that this reader needs."""
    records = {}
    start, end = 0, len(data.rstrip(b"\0"))
    while start < end:
        digits = data[start : start + 20].partition(b" ")[0]
        stop = start + (int(digits) if digits.isdigit() else 0)
        key, equals, value = data[start + len(digits) + 1 : max(start, stop - 1)].partition(b"=")
        if not equals or stop > len(data):
            raise stream.invalid("an extended header is damaged")
        if key in _USED_KEYS or key.startswith(b"GNU.sparse."):
            records[_text(key)] = _text(value)
        start = stop
    return records


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _header(stream: _Stream, info: tarfile.TarInfo, extended: dict[str, str]) -> _Header:
    name = extended.get("path", info.name)
    if info.type not in _KINDS or any(key.startswith("GNU.sparse.") for key in extended):
        raise UnsafeArchive(
            f"{name[:200]!r} is a device, pipe or sparse file; only files and links are allowed."
        )
    kind = _KINDS[info.type]
    size = extended.get("size", str(info.size))
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise stream.invalid(f"the size of {name[:200]!r} is not a number")
    return _Header(name, kind, extended.get("linkpath", info.linkname), int(size) if kind == "file" else 0)


def _member(header: _Header, body: _Body) -> Member | None:
    """None for the root directory itself, which stripping leaves without a name."""
    name = _stripped(header.name + "/" if header.kind == "directory" else header.name)
    if not name and header.kind == "directory":
        return None
    if not name:
        raise InvalidArchive(f"The archive member {header.name[:200]!r} has no name.")
    if header.kind == "symlink":
        check_link(name, header.target)
        return Member(name, header.kind, target=header.target)
    if header.kind == "hardlink":  # its target is the name of another member
        return Member(name, header.kind, target=_stripped(header.target))
    return Member(name, header.kind, body.chunks)


def _stripped(raw: str) -> str:
    safe_name(raw)  # the stripped part must not be hostile either
    first, slash, rest = raw.partition("/")
    return safe_name(rest.lstrip("/") if slash else first)
