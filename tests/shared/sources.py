"""The project as a newcomer has it: its tracked files, in a folder of their own."""

import os
import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# The environment without what would lead a new Python to these sources or to a running server.
PYTHON_FREE = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MARQ_", "TS_", "PYTHON", "VIRTUAL_ENV"))
}


def copy_sources(folder: Path) -> Path:
    """Copies each file that git knows, or would add, into the folder; returns the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    return folder
