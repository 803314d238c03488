"""Models that are directories (`no-archive`). They are used in place, so their content is trusted."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from archive.formats.limits import CHUNK_BYTES, Limits
from archive.formats.member import Member


def model_folder(path: Path) -> Path:
    """The directory that holds the model: `path`, or its only child, as SageMaker unpacks archives."""
    children = list(path.iterdir())
    if len(children) == 1 and children[0].is_dir() and children[0].name != "MAR-INF":
        return children[0]
    return path


def members(path: Path, limits: Limits) -> Iterator[Member]:
    """The files below `model_folder(path)` by name. Links to directories are not followed."""
    root = model_folder(path)
    budget = limits.budget(0)
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            found = Path(folder, file)
            if found.is_file():
                name = found.relative_to(root).as_posix()
                budget.enter(name)
                yield Member(name, "file", partial(_chunks, found))


def size_bytes(path: Path) -> int:
    """The bytes of all files below the directory."""
    return sum(
        Path(folder, file).stat().st_size
        for folder, _, files in os.walk(path)
        for file in files
        if Path(folder, file).is_file()
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data
