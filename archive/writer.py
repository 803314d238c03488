"""Writes model archives as `torch-model-archiver` does."""

import io
import json
import logging
import re
import secrets
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.collect import Files, check_names, extra_files, handler_file, single_file
from archive.errors import PackagingError
from archive.manifest import MANIFEST_NAME, RUNTIMES

log = logging.getLogger(__name__)

ARCHIVER_VERSION = "0.12.0"  # of the torch-model-archiver whose archives these are like

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")


@dataclass(frozen=True)
class ArchiveSpec:
    """The options of `torch-model-archiver`.

    `handler` is a default handler's name, or a path with or without `.py` and `:function`. `extra_files` are
    files, directories (whose contents are added) and wildcards. `archive_format` is default, zip-store, tgz
    or no-archive.
    """

    model_name: str
    handler: str
    version: str
    serialized_file: str | None = None
    model_file: str | None = None
    extra_files: tuple[str, ...] = ()
    runtime: str = "python"
    export_path: Path = Path()
    archive_format: str = "default"
    force: bool = False
    requirements_file: str | None = None
    config_file: str | None = None


def write(spec: ArchiveSpec) -> Path:
    """Writes the archive and returns its path. Raises PackagingError; the archive is complete or not there.

    With `force` an archive is replaced; in a directory (no-archive) files are replaced, and others stay.
    """
    files = plan(spec)
    target = _target(spec)
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        _FORMATS[spec.archive_format].write(part, files, _manifest(spec), spec.model_name)
        _publish(part, target)
    except OSError as error:
        raise _unsaved(target, error) from error
    finally:
        _discard(part)
    return target


def plan(spec: ArchiveSpec) -> Files:
    """What would go into the archive: each member's name and source. Raises PackagingError."""
    _check(spec)
    return _files(spec)


def _check(spec: ArchiveSpec) -> None:
    if not _NAME.fullmatch(spec.model_name):
        raise PackagingError(
            "Model name contains special characters.\n"
            f"The allowed regular expression filter for model name is: ^{_NAME.pattern}$"
        )
    for option, value, allowed in (
        ("runtime", spec.runtime, RUNTIMES),
        ("archive format", spec.archive_format, tuple(_FORMATS)),
    ):
        if value not in allowed:
            raise PackagingError(f"The {option} {value!r} is unknown; allowed are {', '.join(allowed)}.")
    if not Path(spec.handler).name:
        raise PackagingError("The handler is missing; give a default handler's name or a path.")


def _files(spec: ArchiveSpec) -> Files:
    """Later files replace earlier ones of the same name, in the order of the original tool."""
    files: Files = {}
    for path in (spec.model_file, spec.serialized_file, handler_file(spec.handler, spec.runtime)):
        if path:
            files |= single_file(Path(path))
    files |= extra_files(spec.extra_files)
    for path in (spec.requirements_file, spec.config_file):
        if path:
            files |= single_file(Path(path))
    check_names(files)
    return dict(sorted(files.items()))


def _manifest(spec: ArchiveSpec) -> bytes:
    model = {
        "modelName": spec.model_name,
        "serializedFile": _base(spec.serialized_file),
        "handler": _base(spec.handler),
        "modelFile": _base(spec.model_file),
        "modelVersion": spec.version,
        "requirementsFile": _base(spec.requirements_file),
        "configFile": _base(spec.config_file),
    }
    content: dict[str, Any] = {
        "createdOn": time.strftime("%d/%m/%Y %H:%M:%S"),
        "runtime": spec.runtime,
        "model": {key: value for key, value in model.items() if value},
        "archiverVersion": ARCHIVER_VERSION,
    }
    return json.dumps(content, indent=2).encode()


def _base(path: str | None) -> str | None:
    return Path(path).name if path else None


def _target(spec: ArchiveSpec) -> Path:
    folder = spec.export_path
    if folder.exists() and not folder.is_dir():
        raise PackagingError(
            f"Given export-path {folder} is not a directory. Point to a valid export-path directory."
        )
    target = folder / (spec.model_name + _FORMATS[spec.archive_format].suffix)
    if target.exists() and not spec.force:
        raise PackagingError(
            f"{target} already exists.\n"
            "Please specify --force/-f option to overwrite the model archive output file.\n"
            "See -h/--help for more details."
        )
    if target.exists():
        log.warning("Overwriting %s ...", target)
    if not folder.exists():
        log.warning("Export directory (%s) does not exist. Creating...", folder)
    return _in_existing(target)


def _in_existing(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unsaved(target, error) from error
    return target


def _unsaved(target: Path, error: OSError) -> PackagingError:
    return PackagingError(
        f'Failed to save the model-archive to model-path "{target}". Check the file permissions and retry.',
        str(error),
    )


def _write_zip(compression: int) -> Callable[[Path, Files, bytes, str], None]:
    def write(part: Path, files: Files, manifest: bytes, _: str) -> None:
        with zipfile.ZipFile(part, "x", compression, strict_timestamps=False) as archive:
            for name, path in files.items():
                archive.write(path, name)
            archive.writestr(MANIFEST_NAME, manifest)

    return write


def _write_tgz(part: Path, files: Files, manifest: bytes, model_name: str) -> None:
    with tarfile.open(part, "x:gz", dereference=True) as archive:
        for name, path in files.items():
            archive.add(path, f"{model_name}/{name}", filter=_anonymous)
        info = tarfile.TarInfo(f"{model_name}/{MANIFEST_NAME}")
        info.size = len(manifest)
        archive.addfile(info, io.BytesIO(manifest))


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who packed the archive is nobody's business."""
    return info.replace(uid=0, gid=0, uname="", gname="", deep=False)


def _write_folder(part: Path, files: Files, manifest: bytes, _: str) -> None:
    for name, path in files.items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, part / name)
    (part / MANIFEST_NAME).parent.mkdir(parents=True)
    (part / MANIFEST_NAME).write_bytes(manifest)


def _publish(part: Path, target: Path) -> None:
    if not part.is_dir() or not target.exists():
        part.replace(target)
        return
    for path in sorted(part.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(part)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)


def _discard(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Format:
    suffix: str
    write: Callable[[Path, Files, bytes, str], None]


_FORMATS = {
    "default": _Format(".mar", _write_zip(zipfile.ZIP_DEFLATED)),
    "zip-store": _Format(".mar", _write_zip(zipfile.ZIP_STORED)),
    "tgz": _Format(".tar.gz", _write_tgz),
    "no-archive": _Format("", _write_folder),
}
