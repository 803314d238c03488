"""Writes model archives as `torch-model-archiver` does."""

import json
from dataclasses import dataclass
from pathlib import Path

from archive.errors import PackagingError
from archive.manifest import MANIFEST_NAME, RUNTIMES
from archive.packing.collect import Files, check_names, extra_files, folder_files, handler_file, single_file
from archive.packing.containers import FORMATS, Contents, created_on
from archive.packing.output import check_folder, check_free, check_name, published

ARCHIVER_VERSION = "0.12.0"  # of the torch-model-archiver whose archives these are like


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


def write(spec: ArchiveSpec, manifest: bytes | None = None) -> Path:
    """Writes the archive and returns its path. Raises PackagingError; the archive is complete or not there.

    With `force` an archive is replaced; in a directory (no-archive) files are replaced, and others stay. The
    manifest is `manifest_json(spec)` unless it is given.
    """
    files = plan(spec)
    target = spec.export_path / file_name(spec.model_name, spec.archive_format)
    check_folder(spec.export_path)
    check_free("model", target, spec.force)
    content = manifest_json(spec) if manifest is None else manifest
    _pack(target, spec.archive_format, Contents(spec.model_name, files, MANIFEST_NAME, content))
    return target


def write_folder(folder: Path, target: Path, name: str, archive_format: str, manifest: bytes) -> None:
    """Packs a directory; replaces `target`. Raises PackagingError."""
    _pack(target, archive_format, Contents(name, folder_files(folder), MANIFEST_NAME, manifest))


def plan(spec: ArchiveSpec) -> Files:
    """The members of the archive: each member's name and source. Raises PackagingError."""
    _check(spec)
    return _files(spec)


def file_name(model_name: str, archive_format: str) -> str:
    """The archive's name in the export directory."""
    return model_name + FORMATS[archive_format].suffix


def manifest_json(spec: ArchiveSpec) -> bytes:
    """The archive's manifest; options that are empty are left out."""
    model = {
        "modelName": spec.model_name,
        "serializedFile": _base(spec.serialized_file),
        "handler": _base(spec.handler),
        "modelFile": _base(spec.model_file),
        "modelVersion": spec.version,
        "requirementsFile": _base(spec.requirements_file),
        "configFile": _base(spec.config_file),
    }
    content: dict[str, object] = {
        "createdOn": created_on(),
        "runtime": spec.runtime,
        "model": {key: value for key, value in model.items() if value},
        "archiverVersion": ARCHIVER_VERSION,
    }
    return json.dumps(content, indent=2).encode()


def _base(path: str | None) -> str | None:
    return Path(path).name if path else None


def _pack(target: Path, archive_format: str, contents: Contents) -> None:
    with published("model", target) as part:
        FORMATS[archive_format].write(part, contents)


def _check(spec: ArchiveSpec) -> None:
    check_name("model", spec.model_name)
    for option, value, allowed in (
        ("runtime", spec.runtime, RUNTIMES),
        ("archive format", spec.archive_format, tuple(FORMATS)),
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
