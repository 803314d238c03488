"""The formats that archives are written in."""

import io
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archive.errors import PackagingError
from archive.formats.limits import CHUNK_BYTES
from archive.packing.collect import Files


@dataclass(frozen=True)
class Contents:
    """The members: the files, then the manifest under its name."""

    name: str  # of the model or workflow
    files: Files
    manifest_name: str
    manifest: bytes


@dataclass(frozen=True)
class Format:
    suffix: str
    write: Callable[[Path, Contents], None]


def now() -> time.struct_time:
    """The time that archives are stamped with: SOURCE_DATE_EPOCH (in UTC) if it is set, else local time.

    The same files packed with the same SOURCE_DATE_EPOCH make the same zip archive, byte for byte.
    """
    epoch = _epoch()
    return time.localtime() if epoch is None else time.gmtime(epoch)


def created_on() -> str:
    """`now` as manifests have it."""
    return time.strftime("%d/%m/%Y %H:%M:%S", now())


def write_zip(compression: int) -> Callable[[Path, Contents], None]:
    """The writer of zip archives whose members are all stored or all deflated."""

    def write(part: Path, contents: Contents) -> None:
        with zipfile.ZipFile(part, "x", compression, strict_timestamps=False) as archive:
            for name, path in contents.files.items():
                _add(archive, path, name)
            info = zipfile.ZipInfo(contents.manifest_name, _zip_time(now()))
            archive.writestr(info, contents.manifest, compression)

    return write


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
    info.compress_type = archive.compression
    if _epoch() is not None:
        info.date_time = min(info.date_time, _zip_time(now()))
    with path.open("rb") as source, archive.open(info, "w") as member:
        shutil.copyfileobj(source, member, CHUNK_BYTES)


def _epoch() -> int | None:
    value = os.environ.get("SOURCE_DATE_EPOCH")
    if not value:
        return None
    if not value.isdecimal():
        raise PackagingError(f"SOURCE_DATE_EPOCH must be a number of seconds, not {value!r}.")
    return int(value)


def _zip_time(moment: time.struct_time) -> tuple[int, int, int, int, int, int]:
    """The time within the range of zip archives, 1980 to 2107."""
    first, last = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 59)
    return min(last, max(first, moment[:6]))


def _write_tgz(part: Path, contents: Contents) -> None:
    with tarfile.open(part, "x:gz", dereference=True) as archive:
        for name, path in contents.files.items():
            archive.add(path, f"{contents.name}/{name}", filter=_anonymous)
        info = tarfile.TarInfo(f"{contents.name}/{contents.manifest_name}")
        info.size = len(contents.manifest)
        archive.addfile(info, io.BytesIO(contents.manifest))


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Removes the packer's user and group."""
    return info.replace(uid=0, gid=0, uname="", gname="", deep=False)


def _write_folder(part: Path, contents: Contents) -> None:
    for name, path in contents.files.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, part / name)
    manifest = part / contents.manifest_name
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(contents.manifest)


FORMATS = {
    "default": Format(".mar", write_zip(zipfile.ZIP_DEFLATED)),
    "zip-store": Format(".mar", write_zip(zipfile.ZIP_STORED)),
    "tgz": Format(".tar.gz", _write_tgz),
    "no-archive": Format("", _write_folder),
}
