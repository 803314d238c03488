"""One replica as its pool sees it: started, watched, stopped; its output goes to the model log."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Any

import psutil

from marq.process import child_environment
from workers import devices, scoreboard
from workers.specs import PoolSpec, ReplicaSpec, consumer_name, scoreboard_path

log = logging.getLogger(__name__)

TAIL_LINES = 20
METRIC_LINE = "[METRICS]"


class ReplicaProcess:
    """The operating-system process of one slot."""

    def __init__(self, pool: PoolSpec, slot: int, model_log: logging.Logger) -> None:
        self.slot = slot
        gpu = devices.device_for(pool.model, slot, pool.gpus, pool.first_device)
        path = scoreboard_path(pool.run_dir, pool.name, slot)
        self.board = scoreboard.Scoreboard.create(path, pool.model.batch_size)
        self.spec = ReplicaSpec(pool, slot, gpu, str(path))
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.started = time.time()
        self.was_ready = False
        self.stopping = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.replica"],
            env=child_environment(self._threads(), self.spec.to_environment()),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        self.consumer = consumer_name(pool.name, slot, self.pid)
        self._reader = threading.Thread(target=self._read_output, args=(model_log,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def state(self) -> str:
        if self._process.poll() is not None:
            return "stopped"
        return scoreboard.STATE_NAMES[self.board.state]

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def overdue(self) -> str | None:
        """Why the replica must be killed, if a time-out of its model has passed."""
        model = self.spec.pool.model
        if self.board.state == scoreboard.READY and self.board.busy_s > model.response_timeout_s:
            return f"no answer within the response time-out of {model.response_timeout_s} s"
        if self.board.state == scoreboard.LOADING and time.time() - self.started > model.startup_timeout_s:
            return f"not ready within the start-up time-out of {model.startup_timeout_s} s"
        return None

    def drain(self) -> None:
        """Asks it to finish what it runs and end. While it loads there is nothing to finish."""
        self.stopping = True
        self._process.send_signal(
            signal.SIGTERM if self.board.state != scoreboard.LOADING else signal.SIGKILL
        )

    def kill(self) -> None:
        self._process.kill()

    def wait_for_output(self) -> None:
        """Waits for the last lines of a process that has ended."""
        self._reader.join(timeout=1)

    def report(self) -> dict[str, Any]:
        """What `describe` shows of a replica."""
        requests, batches = self.board.counts
        return {
            "id": self.slot, "pid": self.pid, "device": self.spec.device, "state": self.state,
            "started": self.started, "memory": self._memory(), "requests": requests, "batches": batches,
        }  # fmt: skip

    def _memory(self) -> int:
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _threads(self) -> dict[str, str]:
        """OMP_NUM_THREADS is left alone where the operator has set it."""
        return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(self.spec.pool.threads)}

    def _read_output(self, model_log: logging.Logger) -> None:
        assert self._process.stdout is not None  # noqa: S101 - opened above
        for line in self._process.stdout:
            if not line.startswith(METRIC_LINE):
                self.tail.append(line.rstrip())
                model_log.info("[%s/%d pid %d] %s", self.spec.pool.name, self.slot, self.pid, line.rstrip())
