"""What a replica prints: into the model log, but for lines of metrics. Its last lines are kept."""

import logging
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import IO

from workers.handler import log_lines

TAIL_LINES = 20
LONGEST_LINE = 65_536  # characters: a longer one is logged in pieces
LAST_WORDS_S = 0.3  # limit for reading the last output of a replica; its children may keep the pipe open
METRIC_LINE = "[METRICS]"
AcceptMetric = Callable[[str], bool]  # takes a line; False: it has no metric and is logged


class ReplicaOutput:
    """Reads both outputs of a process until they end. `name` begins each line of the log."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        name: str,
        model_log: logging.Logger,
        accept_metric: AcceptMetric,
    ) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._name, self._model_log, self._accept_metric = name, model_log, accept_metric
        outputs = (process.stdout, logging.INFO), (process.stderr, logging.WARNING)
        self._readers = [threading.Thread(target=self._read, args=each, daemon=True) for each in outputs]
        for reader in self._readers:
            reader.start()

    def wait(self, deadline: float | None = None) -> None:
        """Reads the last lines of a process that has ended, until a deadline (monotonic s)."""
        deadline = time.monotonic() + LAST_WORDS_S if deadline is None else deadline
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))

    def _read(self, output: IO[str], level: int) -> None:
        for line in iter(partial(output.readline, LONGEST_LINE), ""):
            if not line.startswith(METRIC_LINE) or not self._accept_metric(line.rstrip()):
                text, its_level = log_lines.read(line.rstrip(), level)
                self.tail.append(text)
                self._model_log.log(its_level, "[%s] %s", self._name, text)
