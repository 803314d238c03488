"""The metrics of a host (processor, memory, disk, GPUs), which its node collects."""

import logging
import re
import shlex
import subprocess
import sys
from pathlib import Path

import ts
from marq.connections.commands import RedisClient
from marq.metrics import catalog
from marq.metrics import config as metrics_config
from marq.metrics.measurements import FLUSH_EVERY_S, HOST, Measurements, Timer
from marq.metrics.torchserve_logs import ServerMetrics
from marq.settings.fields import Settings
from ts.metrics import system_metrics
from workers.pool.handler_metrics import MARK, parse

log = logging.getLogger(__name__)

HOME = Path(ts.__file__).parent.parent  # TorchServe's own script is named relative to it


class SystemMetrics:
    """Call `collect_if_due` often: it starts no threads and takes milliseconds when a collection is due."""

    def __init__(self, settings: Settings, gpus: int) -> None:
        self._gpus, self._command = gpus, shlex.split(settings.system_metrics_cmd)
        self._measurements = Measurements()
        config = metrics_config.read(settings.metrics_config)
        self._server = ServerMetrics(
            config.ts, settings.metrics_mode, settings.metrics_log_dir, self._measurements
        )
        self._is_off = settings.disable_system_metrics
        self._collect_timer = Timer(settings.metric_time_interval)
        self._flush_timer = Timer(FLUSH_EVERY_S)
        self._running: subprocess.Popen[str] | None = None

    def collect_if_due(self, client: RedisClient) -> None:
        """Collects and stores metrics, each at its interval. Raises redis.RedisError."""
        if not self._is_off and self._collect_timer.is_due():
            self._collect()
        if self._running and self._running.poll() is not None:
            self._read(self._running)
            self._running = None
        if self._flush_timer.is_due():
            self._server.write()
            self._measurements.flush(client)

    def _collect(self) -> None:
        self._collect_memory_of_gpus()
        if self._command:
            self._start_command()
            return
        for metric in system_metrics.collect(system_metrics, self._gpus):
            labels = (str(dimension.value) for dimension in metric.dimensions)
            self._server.add(metric.name, metric.value, *labels)

    def _collect_memory_of_gpus(self) -> None:
        for gpu in system_metrics.gpus(self._gpus):
            for state, value in (("used", gpu.used), ("free", gpu.free)):
                self._measurements.set(catalog.GPU_MEMORY, (HOST, str(gpu.id), state), value)

    def _start_command(self) -> None:
        """Runs `system_metrics_cmd`: a Python script that prints metrics; they are read when it has ended."""
        if self._running:
            log.warning("system_metrics_cmd has not ended within metric_time_interval; it is killed")
            self._running.kill()
            self._running.wait()
        home = HOME if (HOME / self._command[0]).is_file() else None
        self._running = subprocess.Popen(
            [sys.executable, *self._command], cwd=home, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _read(self, process: "subprocess.Popen[str]") -> None:
        output = process.communicate()[0]
        for line in output.splitlines():
            if found := parse(line if line.startswith(MARK) else f"{MARK}{line}"):
                self._server.add(found.name, found.value, *found.dimensions.values(), host=found.host)
        if process.returncode:
            last = re.sub(r"\s+", " ", output[-500:])
            log.error("system_metrics_cmd ended with exit code %d: %s", process.returncode, last)
