"""The console: copies of log lines on stdout, which never hold up the process that writes them.

A pipe that is full, or whose reader has gone, costs lines of the console only; the log files have them.
"""

import atexit
import logging
import os
import sys
import threading

MOST_WAITING = 4_000_000  # characters
LAST_WORDS_S = 1.0  # how long the end of the process waits for the reader


class Console:
    """Writes to stdout in a thread of its own."""

    def __init__(self) -> None:
        self._descriptor = sys.stdout.fileno()
        self._changed = threading.Condition()
        self._texts: list[str] = []
        self._waiting = self._dropped = 0
        self._is_open = True
        threading.Thread(target=self._write_all, name="console", daemon=True).start()
        atexit.register(self._finish)

    def write(self, text: str) -> None:
        """Queues whole lines. They are dropped where the reader is too slow, or has gone."""
        with self._changed:
            if self._waiting + len(text) > MOST_WAITING:
                self._dropped += text.count("\n")
            elif self._is_open:
                self._texts.append(text)
                self._waiting += len(text)
                self._changed.notify()

    def _write_all(self) -> None:
        while self._is_open:
            with self._changed:
                self._changed.wait_for(lambda: self._texts)
                text, self._texts = "".join(self._texts), []
                if self._dropped:
                    text += f"({self._dropped} lines are in the log files only: the console is not read)\n"
                    self._dropped = 0
            try:
                self._write(text.encode(errors="replace"))
            except OSError:
                self._is_open = False
            with self._changed:
                self._waiting = sum(map(len, self._texts)) if self._is_open else 0
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _finish(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, LAST_WORDS_S)


class ConsoleHandler(logging.Handler):
    """Log records as lines of the console."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console()

    def emit(self, record: logging.LogRecord) -> None:
        self._console.write(self.format(record) + "\n")
