"""Checks the place of a new archive, and puts the archive there complete or not at all."""

import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archive.errors import PackagingError

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")


def check_name(kind: str, name: str) -> None:
    """Raises PackagingError if a model or workflow (`kind`) may not have this name."""
    if not _NAME.fullmatch(name):
        raise PackagingError(
            f"{kind.capitalize()} name contains special characters.\n"
            f"The allowed regular expression filter for {kind} name is: ^{_NAME.pattern}$"
        )


def check_folder(folder: Path, must_exist: bool = False) -> None:
    """Raises PackagingError if `folder` is not a directory; with `must_exist`, also if it does not exist."""
    if not folder.is_dir() and (must_exist or folder.exists()):
        raise PackagingError(
            f"Given export-path {folder} is not a directory. Point to a valid export-path directory."
        )


def check_free(kind: str, target: Path, force: bool) -> None:
    """Raises PackagingError if `target` exists; with `force` it warns that it will be overwritten."""
    if not target.exists():
        return
    if not force:
        raise PackagingError(
            f"{target} already exists.\n"
            f"Please specify --force/-f option to overwrite the {kind} archive output file.\n"
            "See -h/--help for more details."
        )
    log.warning("Overwriting %s ...", target)


@contextmanager
def published(kind: str, target: Path) -> Iterator[Path]:
    """A path to write to; its file becomes `target` after the block, or is discarded if the block fails.

    A file is replaced; in a directory files are replaced, and others stay. The directory that `target` is in
    is made. Raises PackagingError for errors of the file system.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        _make(target.parent)
        yield part
        _publish(part, target)
    except OSError as error:
        raise PackagingError(
            f'Failed to save the {kind}-archive to {kind}-path "{target.parent}". '
            "Check the file permissions and retry.",
            str(error),
        ) from error
    finally:
        _discard(part)


def _make(folder: Path) -> None:
    if not folder.exists():
        log.warning("Export directory (%s) does not exist. Creating...", folder)
    folder.mkdir(parents=True, exist_ok=True)


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
    elif part.exists():
        part.unlink()
