"""Walks over a folder and has each file judged by the module of its kind."""

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from marq.migration import archives, config_files, dockerfiles, log_configs, manifests, requirements
from marq.migration.findings import Finding

Look = Callable[[Path], Iterator[Finding]]
# By the file's name in lower case; the first that fits.
KINDS: tuple[tuple[str, Look], ...] = (
    ("log4j*", log_configs.look),
    ("*log*config*.xml", log_configs.look),
    ("*.properties", config_files.look),
    ("*.mar", archives.look),
    ("*.tgz", archives.look),
    ("*.tar.gz", archives.look),
    ("*.war", archives.look_at_workflow),
    ("*dockerfile*", dockerfiles.look),
    ("*requirements*.txt", requirements.look),
    ("*.yaml", manifests.look),
    ("*.yml", manifests.look),
)
SKIPPED = frozenset((".git", "node_modules", "__pycache__", "site-packages"))
MANIFEST = Path("MAR-INF") / "MANIFEST.json"


def look(directory: Path) -> list[Finding]:
    """The findings on all files that TorchServe or its container would read, sorted by file and line."""
    found = [finding for file, judge in _files(directory) for finding in judge(file)]
    return sorted(found, key=lambda finding: (finding.file, finding.line))


def _files(directory: Path) -> Iterator[tuple[Path, Look]]:
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            if (path / MANIFEST).is_file():
                yield path, archives.look
            elif not path.is_symlink() and path.name not in SKIPPED:
                yield from _files(path)
            continue
        name = path.name.lower()
        judge = next((judge for pattern, judge in KINDS if fnmatch(name, pattern)), None)
        if judge and path.is_file():
            yield path, judge
