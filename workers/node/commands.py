"""Programs whose output goes to the model log, line by line while they run."""

import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
from collections import deque
from pathlib import Path

TAIL_LINES = 10
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")


class CommandFailed(Exception):
    """Raised when a program fails; its text is the last lines of the output."""


class LoggedCommands:
    """Runs programs, also several at a time, until `stop`."""

    def __init__(self, model_log: logging.Logger) -> None:
        self._log = model_log
        self._running: set[subprocess.Popen[str]] = set()
        self._stopping = False

    def run(self, command: list[str], cwd: Path, label: str, timeout_s: float) -> None:
        """Waits for the end. Users and passwords in URLs are masked everywhere. Raises CommandFailed."""
        if self._stopping:
            raise CommandFailed("The node is stopping.")
        try:
            process = subprocess.Popen(
                command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace",
                start_new_session=True,  # its own processes, compilers for example, can be ended with it
            )  # fmt: skip
        except OSError as error:
            raise CommandFailed(str(error)) from error
        self._running.add(process)
        if self._stopping:  # `stop` came after the check above
            _kill(process)
        try:
            tail, late = self._follow(process, label, timeout_s)
        finally:
            self._running.discard(process)
        if late:
            raise CommandFailed("\n".join((*tail, f"It took longer than {timeout_s:g} s and was ended.")))
        if process.returncode:
            raise CommandFailed("\n".join(tail) or f"{Path(command[0]).name} ended with {process.returncode}")

    def stop(self) -> None:
        """Ends all programs; `run` starts no more."""
        self._stopping = True
        for process in list(self._running):
            _kill(process)

    def _follow(
        self, process: subprocess.Popen[str], label: str, timeout_s: float
    ) -> tuple[deque[str], bool]:
        """The last lines, and whether the time-out has passed."""
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        late = threading.Event()

        def end() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(timeout_s, end)
        timer.start()
        with process:
            assert process.stdout is not None  # noqa: S101 - opened above
            for line in process.stdout:
                if text := without_credentials(line.rstrip()):
                    tail.append(text)
                    self._log.info("[%s] %s", label, text)
        timer.cancel()
        return tail, late.is_set()


def without_credentials(text: str) -> str:
    """The text with `****` for the users and passwords of URLs."""
    return _CREDENTIALS.sub("****@", text)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
