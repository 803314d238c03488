"""Which files go into a new archive, and under which names."""

import glob
import logging
import os
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path

from archive.errors import PackagingError, SourceMissing
from archive.manifest import MANIFEST_NAME

log = logging.getLogger(__name__)

Files = dict[str, Path]  # name in the archive -> file

_DEFAULT_HANDLERS = {
    "python": (
        "base_handler",
        "text_classifier",
        "image_classifier",
        "object_detector",
        "image_segmenter",
        "dali_image_classifier",
        "vllm_handler",
        "trt_llm_handler",
    ),
    "LSP": ("BaseHandler", "TorchScriptHandler"),
}
_SUFFIXES = {"LSP": ".dylib" if sys.platform == "darwin" else ".so"}


def handler_file(handler: str, runtime: str) -> Path | None:
    """The file of a handler given as `path`, `path.py` or either with `:function`; None for a default one."""
    runtime = "python" if runtime == "python3" else runtime
    if handler in _DEFAULT_HANDLERS[runtime]:
        return None
    folder, name = os.path.split(handler)
    suffix = _SUFFIXES.get(runtime, ".py")
    name = name.partition(":")[0]
    return Path(folder, name if name.endswith(suffix) else name + suffix)


def single_file(path: Path) -> Files:
    """The file under its own name. Raises SourceMissing if it is not a file."""
    if not path.is_file():
        raise SourceMissing(f"File does not exist: {path}")
    return {path.name: path}


def extra_files(items: tuple[str, ...]) -> Files:
    """Files, contents of directories, and matches of wildcards; later ones replace earlier ones."""
    files: Files = {}
    for item in filter(None, (item.strip() for item in items)):
        for path in _matches(item):
            files |= folder_files(path) if path.is_dir() else single_file(path)
    return files


def folder_files(folder: Path) -> Files:
    """The files of a directory without the manifest of an unpacked archive that is packed again."""
    files = {path.relative_to(folder).as_posix(): path for path in _walk(folder, ())}
    files.pop(MANIFEST_NAME, None)
    return files


def check_names(files: Files) -> None:
    """Raises PackagingError if one name is needed for both a file and a directory."""
    for name in files:
        parent = posixpath.dirname(name)
        while parent:
            if parent in files:
                raise PackagingError(f"{files[parent]} and {files[name]} need the same name {parent!r}.")
            parent = posixpath.dirname(parent)


def _matches(item: str) -> list[Path]:
    if Path(item).exists():
        return [Path(item)]
    if not glob.has_magic(item):
        raise SourceMissing(f"File does not exist: {item}")
    found = sorted(glob.glob(item))  # noqa: PTH207 - the item may be absolute
    if not found:
        log.warning("Given wildcard pattern did not match any file: %s", item)
    return [Path(path) for path in found]


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """The files below a directory, through links, without those in hidden directories and caches."""
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
        elif path.resolve() in above:
            raise PackagingError(f"{path} is a link to a directory above it.")
        elif not path.name.startswith(".") and path.name not in ("__MACOSX", "__pycache__"):
            yield from _walk(path, above)
