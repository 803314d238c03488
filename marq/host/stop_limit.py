"""How long requests in flight, and then running batches, have to finish at a stop.

The longest `responseTimeout` of the registered models, at most the setting `stop_timeout`. The first gateway
of a host keeps it in a file, for the watcher and `marq stop`: they read it with the standard library alone.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

FILE_NAME = "stop-limit"
LEAST_S = 10.0  # for models that answer faster, and without models: an answer may come in parts


class StopLimit:
    """Kept up to date with the registry by `note`."""

    def __init__(self, most_s: float | None, file_in: Path | None = None) -> None:
        """`file_in`: the state directory whose file is to have the limit."""
        self.seconds, self._most_s, self._state_dir = LEAST_S, most_s, file_in
        self._written: float | None = None

    def note(self, response_timeouts: Iterable[float]) -> None:
        """Takes the response time-outs of the registered models. A file that cannot be written stays."""
        longest = max(LEAST_S, max(response_timeouts, default=LEAST_S))
        self.seconds = longest if self._most_s is None else min(longest, self._most_s)
        if self._state_dir and self.seconds != self._written:
            with contextlib.suppress(OSError):
                _write(self._state_dir / FILE_NAME, self.seconds)
                self._written = self.seconds


def read(state_dir: Path) -> float:
    """The limit in seconds; the least one where no gateway has written it."""
    try:
        return float((state_dir / FILE_NAME).read_text())
    except (OSError, ValueError):
        return LEAST_S


def _write(path: Path, seconds: float) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(f"{seconds:g}")
    new.replace(path)
