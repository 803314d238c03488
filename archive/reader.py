"""Reads model archives: their contents, and the places of their files."""

from dataclasses import dataclass
from pathlib import Path

from archive.errors import InvalidArchive
from archive.formats import folder
from archive.formats.detect import members
from archive.formats.limits import DEFAULT_LIMITS, Limits
from archive.manifest import MANIFEST_NAME, Manifest
from archive.model_config import ModelConfig
from archive.shadows import check_modules
from archive.unpacking.copies import complete
from archive.unpacking.unpack import extract, own_copy, prune, unpacked_path

__all__ = [
    "DEFAULT_LIMITS",
    "Description",
    "Limits",
    "complete",
    "describe",
    "extract",
    "own_copy",
    "prune",
    "unpacked_path",
]


@dataclass(frozen=True)
class Description:
    """The description of an archive, read without unpacking it.

    `config` is None if the manifest names no config file. `size_bytes` is the size of the archive file, or of
    all files of a directory. `names` has every file and link once, in the archive's order.
    """

    path: Path
    manifest: Manifest
    config: ModelConfig | None
    size_bytes: int
    names: tuple[str, ...]


def describe(path: Path, limits: Limits = DEFAULT_LIMITS) -> Description:
    """Reads the manifest and model-config.yaml, and checks the name of every member (as a module, too).

    A tar archive is read to its end for that, twice if it has a config file, but nothing is written. Raises
    ArchiveNotFound, InvalidArchive, UnsafeArchive.
    """
    names: dict[str, None] = {}
    data: bytes | None = None
    for member in members(path, limits):
        if member.kind != "directory":
            names[member.name] = None
        if member.name == MANIFEST_NAME and member.kind == "file":
            data = member.read()
    if not names and path.is_file():
        raise InvalidArchive(f"{path.name} holds no files.")
    check_modules(path.name, names)
    manifest = Manifest.parse(data)
    return Description(path, manifest, _config(path, manifest, limits), _size(path), tuple(names))


def _config(path: Path, manifest: Manifest, limits: Limits) -> ModelConfig | None:
    if not (name := manifest.config_file):
        return None
    data: bytes | None = None
    for member in members(path, limits):
        if member.name == name and member.kind == "file":
            data = member.read()
    if data is None:
        raise InvalidArchive(
            f"The manifest of {path.name} names the config file {name!r}, which is not in the archive."
        )
    return ModelConfig.parse(data, name)


def _size(path: Path) -> int:
    return folder.size_bytes(folder.model_folder(path)) if path.is_dir() else path.stat().st_size
