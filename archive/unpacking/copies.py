"""A model's own copy of an unpacked archive: no other model sees the changes that its handler makes there.

Large weights are linked instead of copied, so that a copy takes as long for 5 GB as for 5 MB. A handler that
overwrites such a file in place changes all links; `is_intact` finds that out, and `extract` unpacks again.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

WEIGHTS = {
    ".bin", ".ckpt", ".engine", ".gguf", ".h5", ".mlmodel", ".msgpack", ".npy", ".npz", ".onnx", ".plan",
    ".pt", ".pt2", ".pth", ".safetensors",
}  # fmt: skip
LINKED_FROM_BYTES = 16 << 20
_UNCHANGED_S = 315_532_800  # 1980-01-01: the modification time of unchanged weights


def mark_intact(root: Path) -> None:
    """Called when the archive has been unpacked to `root`."""
    for path in _weights(root):
        os.utime(path, (_UNCHANGED_S, _UNCHANGED_S))


def is_intact(root: Path) -> bool:
    """Whether no model has written to the files that it shares with others through links."""
    return all(path.stat().st_mtime == _UNCHANGED_S for path in _weights(root))


def copy(source: Path, target: Path) -> None:
    """Makes `target` a fresh copy, in place of an earlier one. Raises OSError."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)


def complete(source: Path, target: Path) -> list[str]:
    """Puts files back that have gone from the copy; returns their names. Added and changed files stay.

    Raises OSError.
    """
    restored = []
    for path in _files(source):
        name = path.relative_to(source)
        if not os.path.lexists(copied := target / name):
            copied.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(path, copied)
            restored.append(str(name))
    return restored


def _copy_file(source: str | Path, target: str | Path) -> None:
    if _is_linked(Path(source)):
        os.link(source, target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _is_linked(path: Path) -> bool:
    return (
        path.suffix.lower() in WEIGHTS and not path.is_symlink() and path.stat().st_size >= LINKED_FROM_BYTES
    )


def _weights(root: Path) -> Iterator[Path]:
    return (path for path in _files(root) if _is_linked(path))


def _files(root: Path) -> Iterator[Path]:
    """All files, and all symbolic links."""
    for directory, folders, names in os.walk(root):
        links = [name for name in folders if (Path(directory) / name).is_symlink()]
        yield from (Path(directory) / name for name in (*names, *links))
