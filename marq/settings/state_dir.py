"""The state directory of a server, unless a setting names one."""

import os
import tempfile
from pathlib import Path


def default_state_dir() -> Path:
    """The usual directory, or where that cannot be written (containers with another user, a read-only root),
    one of this user in TMPDIR, or else in the working directory.

    The same in each process of a user, so commands find the server.
    """
    usual = usual_state_dir()
    if usual and is_writable(usual):
        return usual
    temporary = Path(tempfile.gettempdir()) / f"marq-{os.getuid()}"
    return temporary if _is_own(temporary) and is_writable(temporary) else Path.cwd() / ".marq"


def usual_state_dir() -> Path | None:
    """`$XDG_STATE_HOME/marq`, or `~/.local/state/marq`; None for a user without a home directory."""
    base = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local/state") / "marq"
    except RuntimeError:
        return None


def _is_own(path: Path) -> bool:
    """Whether a directory is this user's or does not exist: other users can write in TMPDIR, too."""
    try:
        return path.lstat().st_uid == os.getuid() and not path.is_symlink()
    except OSError:
        return True


def is_writable(path: Path) -> bool:
    """Whether a directory can be written, or made."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
