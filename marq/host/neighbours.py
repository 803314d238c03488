"""Other servers of this host that have the same working directory, and so the same key file."""

import contextlib
from pathlib import Path

from marq.host.server_file import REDIS_VARIABLE


def of(directory: Path, redis_url: str) -> list[int]:
    """The pids of servers in this directory that use another Redis; those of other users are not seen."""
    import psutil  # for a directory that has a key file only

    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cmdline()[-1:] != ["gateway"] or Path(process.cwd()) != directory.resolve():
                continue
            if process.environ().get(REDIS_VARIABLE) != redis_url:
                found.add(process.ppid())
    return sorted(found)
