"""The SHA-256 of archive files, remembered so that a large file is not read again on every start."""

import hashlib
import json
import re
import secrets
import time
from pathlib import Path

_RECENT_NS = 2_000_000_000  # a file may change again within its time stamp's resolution
_SHA256 = re.compile(r"[0-9a-f]{64}")

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Size, modification time in ns and inode: a stamp that changes with the file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def sha256(path: Path, cache: Path) -> str:
    """The digest of the file's content, from the JSON file `cache` if path and stamp are the same as then.

    The cache is rewritten for each digest; one that is damaged or cannot be written is ignored.
    """
    key, now = str(path.resolve()), stamp(path)
    known = _load(cache)
    if (entry := known.get(key)) and entry[:3] == list(now):
        return str(entry[3])
    digest = _compute(path)
    if time.time_ns() - now[1] > _RECENT_NS:
        kept = {other: entry for other, entry in known.items() if Path(other).exists()}
        _save(cache, {**kept, key: [*now, digest]})
    return digest


def _compute(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(cache: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: entry for key, entry in known.items() if _usable(entry)} if isinstance(known, dict) else {}


def _usable(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 4 and _SHA256.fullmatch(str(entry[3])) is not None


def _save(cache: Path, known: dict[str, list[int | str]]) -> None:
    part = cache.with_name(f"{cache.name}.{secrets.token_hex(8)}.part")
    try:
        part.write_text(json.dumps(known, indent=1))
        part.replace(cache)
    except OSError:
        part.unlink(missing_ok=True)
