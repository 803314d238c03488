"""The directories of a server: whether they can be written, and the lock on its state directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from marq.errors import MarqError
from marq.settings.properties import SettingsError
from marq.settings.state_dir import is_writable


class AlreadyRunning(MarqError):
    """Raised when a server uses this state directory already."""


def make_writable(directory: Path, what: str, cure: str) -> None:
    """Raises SettingsError if the directory cannot be made or written."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        reason = "" if is_writable(directory) else "Permission denied"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise SettingsError(f"The {what} {directory} cannot be written: {reason}. {cure}")


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Holds the state directory, also after `exec`. Raises AlreadyRunning."""
    with (state_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise AlreadyRunning(
                f"marq is already running with the state directory {state_dir} (pid {file.read().strip()}). "
                "Stop it with `marq stop`, or name another directory with --state-dir."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        os.set_inheritable(file.fileno(), True)
        yield
