"""The process of a pool: a Celery worker that its node starts, resizes through Celery and stops."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from marq import keys
from marq.host.processes import child_environment
from marq.registry.models import HEARTBEAT_S
from marq.registry.reports import PoolReport
from workers.launch import PoolSpec
from workers.pool import leftovers

log = logging.getLogger(__name__)

# Celery warns of pickle, which marq's app does not accept; containers run their workers as root.
ROOT_WARNING = "ignore:You're running the worker with superuser privileges"
COMMAND_EVERY_S = 2 * HEARTBEAT_S  # a command is not repeated before the pool can have reported its effect


class PoolProcess:
    """The Celery worker of one model version on this host."""

    def __init__(self, spec: PoolSpec, size: int, on_end: Callable[[], None]) -> None:
        """`on_end` is called, in a thread, when the worker has ended."""
        self.spec, self._on_end = spec, on_end
        self.started = self._commanded = time.monotonic()
        self._logged_ready = 0
        self._process = subprocess.Popen(
            [
                sys.executable, "-P", "-W", ROOT_WARNING,
                "-m", "workers.pool",
                spec.name, str(size), keys.celery_queue(spec.model.name, spec.model.version),
            ],
            env=child_environment({}, spec.to_environment()),
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._watch, name="pool-end", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def resize(self, size: int, report: PoolReport | None) -> None:
        """Grows or shrinks the pool, if its last report says that it has another size."""
        if report is None or report.wanted == size or self._was_commanded_lately():
            return
        change = size - report.wanted
        doing = "starting" if change > 0 else "stopping"
        log.info("%s: %s %d replicas, to have %d", self.spec.name, doing, abs(change), size)
        from workers.app import app  # Celery is large, and most nodes never resize a pool

        command = app.control.pool_grow if change > 0 else app.control.pool_shrink
        command(abs(change), destination=[self.spec.name])
        self._commanded = time.monotonic()

    def reload(self, generation: int, report: PoolReport | None) -> None:
        """Has all replicas of an earlier generation replaced, each when its successor is ready."""
        if report is None or report.generation in (None, generation) or self._was_commanded_lately():
            return
        log.info("%s: replacing all replicas", self.spec.name)
        from workers.app import app

        arguments = {"generation": generation}
        app.control.broadcast("replace_replicas", arguments=arguments, destination=[self.spec.name])
        self._commanded = time.monotonic()

    def _was_commanded_lately(self) -> bool:
        return time.monotonic() - self._commanded < COMMAND_EVERY_S

    def log_ready(self, size: int, report: PoolReport | None) -> None:
        """Logs when all replicas are ready, once for each size."""
        ready = sum(replica.is_ready for replica in report.replicas) if report else 0
        if ready == size != self._logged_ready:
            log.info("%s: %d of %d replicas ready", self.spec.name, ready, size)
            self._logged_ready = size

    def drain(self) -> None:
        """Celery's warm shutdown: replicas finish what they run."""
        if not self.has_ended:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def _watch(self) -> None:
        self._process.wait()
        leftovers.end_of_pool(self._process.pid)
        self._on_end()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within the time-out."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True
