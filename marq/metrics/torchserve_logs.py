"""`metrics_mode`: whether a metric of TorchServe's is shown on `/metrics` or written to a log.

`log`: all are written; `prometheus`: all are shown; `legacy`: only the three counters of requests are shown.
"""

import logging
import time
from pathlib import Path

from marq.logs import SharedFile
from marq.metrics.catalog import COUNTER, GAUGE, Metric
from marq.metrics.measurements import HOST, Labels, Measurements

LOG, PROMETHEUS, LEGACY = "log", "prometheus", "legacy"
LEGACY_NAMES = frozenset(
    ("ts_inference_requests_total", "ts_inference_latency_microseconds", "ts_queue_latency_microseconds")
)
SERVER_FILE, MODEL_FILE = "ts_metrics.log", "model_metrics.log"


def is_shown(name: str, mode: str) -> bool:
    return mode == PROMETHEUS or (mode == LEGACY and name in LEGACY_NAMES)


def add(measurements: Measurements, metric: Metric, labels: Labels, value: float, model: str = "") -> None:
    """Adds a value to a metric in the way of its type."""
    if metric.kind == COUNTER:
        measurements.increment(metric, labels, value, model)
    elif metric.kind == GAUGE:
        measurements.set(metric, labels, value)
    else:
        measurements.observe(metric, labels, value, model)


class ServerMetrics:
    """TorchServe's own metrics (`ts_metrics` of metrics.yaml); a name that is not listed there is dropped.

    `hostname` is the last label of each. In a log there is one line for the values between two calls of
    `write`: the sum of a counter, the last value of anything else.
    """

    def __init__(
        self, metrics: dict[str, Metric], mode: str, log_dir: Path, measurements: Measurements
    ) -> None:
        self._metrics, self._mode, self._measurements = metrics, mode, measurements
        self._log = open_log(log_dir / SERVER_FILE) if mode != PROMETHEUS else None
        self._unwritten: dict[tuple[Metric, Labels], float] = {}

    def add(self, name: str, value: float, *labels: str, host: str = HOST, model: str = "") -> None:
        """Adds to the metric: the values of `labels` come before the host."""
        metric = self._metrics.get(name)
        if metric is None or len(metric.labels) != len(labels) + 1:
            return
        if is_shown(name, self._mode):
            add(self._measurements, metric, (*labels, host), value, model)
            return
        key = metric, (*labels, host)
        before = self._unwritten.get(key, 0.0) if metric.kind == COUNTER else 0.0
        self._unwritten[key] = before + value

    def write(self) -> None:
        """Writes the metrics of the log."""
        unwritten, self._unwritten = self._unwritten, {}
        for (metric, labels), value in unwritten.items():
            if self._log:
                self._log.info(
                    "%s|#%s|#hostname:%s,timestamp:%d",
                    _head(metric, float(value)),
                    _dimensions(metric.labels, labels[:-1]),
                    labels[-1],
                    time.time(),
                )


class ModelLog:
    """`model_metrics.log`: the metrics of handlers."""

    def __init__(self, log_dir: Path) -> None:
        self._log = open_log(log_dir / MODEL_FILE)

    def write(
        self, metric: Metric, value: str, labels: Labels, host: str, request_ids: str, when: str
    ) -> None:
        """Writes one line; `labels` are without the host, `value` is as the handler gave it."""
        dimensions = _dimensions(metric.labels, labels)
        ids = f"requestID:{request_ids}," if request_ids else ""
        self._log.info(
            "%s|#%s|#hostname:%s,%stimestamp:%s", _head(metric, value), dimensions, host, ids, when
        )


def open_log(path: Path) -> logging.Logger:
    """A logger that appends to the file alone, in TorchServe's format."""
    logger = logging.Logger(path.stem, logging.INFO)  # no child of the root: not on stderr, too
    handler = SharedFile(path)
    handler.setFormatter(logging.Formatter("%(asctime)s,%(msecs)03d - %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logger.addHandler(handler)
    return logger


def _head(metric: Metric, value: float | str) -> str:
    return f"{metric.name}.{metric.unit}:{value}"


def _dimensions(names: Labels, values: Labels) -> str:
    return ",".join(f"{name}:{value}" for name, value in zip(names, values, strict=False))
