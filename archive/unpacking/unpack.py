"""Unpacked archives: `root/<sha256 of the file>/`, so that the same content is unpacked once."""

import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from archive.errors import InvalidArchive
from archive.formats.detect import check_file, members
from archive.formats.folder import model_folder
from archive.formats.limits import DEFAULT_LIMITS, Limits
from archive.unpacking import copies
from archive.unpacking.digests import sha256, stamp
from archive.unpacking.tree import Tree

log = logging.getLogger(__name__)

_CACHE = "digests.json"
_STAGING = ".unpack-"
_ABANDONED_S = 24 * 3600.0
_UNPACKED = re.compile(r"[0-9a-f]{64}")


def extract(path: Path, root: Path, limits: Limits = DEFAULT_LIMITS) -> Path:
    """The directory below `root` (created if need be) that holds the archive's files.

    An archive that was unpacked before is not unpacked again, unless a model has overwritten its weights. The
    directory is not for handlers: they get a copy (`own_copy`). It appears complete or not at all,
    also if several processes unpack the same archive. A model that is a directory is not copied: the path
    is then a symbolic link to it. Raises ArchiveNotFound, InvalidArchive, UnsafeArchive, and OSError for what
    the disk refuses.
    """
    root.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        link = unpacked_path(path, root)
        _link(link, model_folder(path.resolve()))
        return link
    check_file(path)
    before = stamp(path)
    final = unpacked_path(path, root)
    if final.is_dir() and copies.is_intact(final):
        os.utime(final)  # it was used now
        return final
    if final.is_dir():
        log.warning("a handler has written to the weights of %s; unpacking it again", path.name)
        _remove(final)
    _unpack_to(final, path, before, limits)
    return final


def own_copy(unpacked: Path, root: Path, owner: str) -> Path:
    """A fresh copy below `root` of what `extract` returned, for one owner alone, in place of its last one.

    A model that is a directory is not copied: its owner works in it. Raises OSError.
    """
    if unpacked.is_symlink():
        return unpacked
    target = root / hashlib.sha256(owner.encode()).hexdigest()
    copies.copy(unpacked, target)
    return target


def unpacked_path(path: Path, root: Path) -> Path:
    """Where `extract` puts the archive. Raises ArchiveNotFound, and OSError for faults of the disk."""
    if path.is_dir():
        source = model_folder(path.resolve())
        return root / hashlib.sha256(os.fsencode(source)).hexdigest() / source.name
    check_file(path)
    return root / sha256(path, root / _CACHE)


def prune(root: Path, keep: Collection[Path], unused_s: float = 0.0) -> list[Path]:
    """Deletes the directories in `root` that hold nothing of `keep` (paths that `extract` returned).

    Those of `keep` count as used now; others are deleted when they have not been used for `unused_s` seconds.
    Returns the deleted paths. Unfinished directories of other processes are deleted after a day;
    directories of models that are links lose the link only.
    """
    if not root.is_dir():
        return []
    kept = {part for path in keep for part in path.parts}  # however the path to `root` is spelled
    deleted = []
    for path in sorted(root.iterdir()):
        if path.name in kept:
            os.utime(path)
        elif _removable(path, unused_s):
            _remove(path)
            deleted.append(path)
    return deleted


def _unpack_to(final: Path, path: Path, before: tuple[int, int, int], limits: Limits) -> None:
    staging = final.with_name(f"{_STAGING}{secrets.token_hex(8)}")
    try:
        _unpack(path, staging, limits)
        if stamp(path) != before:
            raise InvalidArchive(f"{path.name} changed while it was read; register it again.")
        _publish(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack(path: Path, staging: Path, limits: Limits) -> None:
    started = time.monotonic()
    tree = Tree(staging)
    for member in members(path, limits):
        tree.add(member)
    tree.finish()
    copies.mark_intact(staging)
    if not tree.files:
        raise InvalidArchive(f"{path.name} holds no files.")
    log.info("unpacked %s: %d files in %.1f s", path.name, tree.files, time.monotonic() - started)


def _publish(staging: Path, final: Path) -> None:
    try:
        staging.rename(final)
    except OSError:
        if not final.is_dir():
            raise
        log.debug("%s was unpacked by another process meanwhile", final.name)


def _link(link: Path, source: Path) -> None:
    if link.is_symlink() and link.readlink() == source:
        os.utime(link.parent)  # it was used now
        return
    link.parent.mkdir(exist_ok=True)
    new = link.with_name(f"{_STAGING}{secrets.token_hex(8)}")
    new.symlink_to(source)
    new.replace(link)


def _removable(path: Path, unused_s: float) -> bool:
    unused_for_s = time.time() - path.lstat().st_mtime
    if path.name.startswith("."):
        return unused_for_s > _ABANDONED_S
    return _UNPACKED.fullmatch(path.name) is not None and unused_for_s >= unused_s


def _remove(path: Path) -> None:
    # Renamed first: a directory of that name is always complete, even if this process ends here.
    doomed = path.with_name(f"{_STAGING}{secrets.token_hex(8)}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
