"""A digest of a requirements file: of its text and of the local files that it names."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_NESTED = re.compile(r"\s*(-[rc]|--requirement|--constraint)")
_WORD = re.compile(r"[^\s=@;\[\]\"']+")


def fingerprint(requirements: Path, model_dir: Path) -> str:
    """A digest of all that an installation reads from this host.

    That is the file, the wheels and folders that it names, and the same of the files that it includes.
    What an index offers does not count: requirements without versions stay at what was installed first.
    """
    digest = hashlib.sha256()
    for name, path in _contents(requirements, model_dir):
        with path.open("rb") as file:
            digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _contents(requirements: Path, model_dir: Path) -> Iterator[tuple[str, Path]]:
    """(name in the requirements, path) of each file."""
    waiting, seen = [("", requirements)], {requirements.resolve()}
    while waiting:
        name, listing = waiting.pop()
        yield name, listing
        for line in _lines(listing):
            for word, path in _named(line, listing.parent, model_dir):
                if path.resolve() in seen:
                    continue
                seen.add(path.resolve())
                if path.is_file() and _NESTED.match(line):
                    waiting.append((word, path))
                else:
                    yield from _below(word, path)


def _lines(listing: Path) -> list[str]:
    return listing.read_text(errors="replace").replace("\\\n", " ").splitlines()


def _named(line: str, *folders: Path) -> Iterator[tuple[str, Path]]:
    """The words of a line that are files or folders. Too many do no harm: pip decides what they mean."""
    text = re.sub(r"(^|\s)#.*", "", line)
    for word in _WORD.findall(re.sub(r"^\s*-[a-z]", " ", text)):
        for folder in folders:
            with contextlib.suppress(OSError, ValueError):  # a word that cannot be a path
                if (path := folder / word.removeprefix("file://")).exists():
                    yield word, path


def _below(word: str, path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield word, path
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            if (file := Path(folder, name)).is_file():
                yield f"{word}/{file.relative_to(path)}", file
