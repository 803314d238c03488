"""Reads `metrics.yaml`: which metrics of TorchServe and of handlers there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from marq.errors import MarqError
from marq.metrics.catalog import KINDS, Metric

DEFAULT = Path(__file__).with_name("metrics.yaml")
SECTIONS = ("dimensions", "ts_metrics", "model_metrics")
HELP = "Torchserve prometheus {kind} metric with unit: {unit}"
LEVEL, REQUEST, OF_ONE = (
    2,
    3,
    3,
)  # dimensions: Level and host; model, version, host; one device or worker more
DIMENSIONS = {
    "Requests2XX": LEVEL,
    "Requests4XX": LEVEL,
    "Requests5XX": LEVEL,
    "QueueTime": LEVEL,
    "WorkerThreadTime": LEVEL,
    "WorkerLoadTime": OF_ONE,
    "ts_inference_requests_total": REQUEST,
    "ts_inference_latency_microseconds": REQUEST,
    "ts_queue_latency_microseconds": REQUEST,
    "CPUUtilization": LEVEL,
    "MemoryUsed": LEVEL,
    "MemoryAvailable": LEVEL,
    "MemoryUtilization": LEVEL,
    "DiskUsage": LEVEL,
    "DiskUtilization": LEVEL,
    "DiskAvailable": LEVEL,
    "GPUMemoryUtilization": OF_ONE,
    "GPUMemoryUsed": OF_ONE,
    "GPUUtilization": OF_ONE,
}


class MetricsConfigError(MarqError):
    """Raised for a metrics.yaml that cannot be used; names the file, the place and the allowed values."""


@dataclass(frozen=True)
class MetricsConfig:
    """The metrics by name: the server's own (`ts`) and those of handlers (`model`, without `Hostname`)."""

    ts: dict[str, Metric]
    model: dict[str, Metric]


def read(path: Path | str | None = None) -> MetricsConfig:
    """The configuration in a file, or the default one. Raises MetricsConfigError."""
    path = Path(path or DEFAULT)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MetricsConfigError(f"metrics_config: {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise MetricsConfigError(f"metrics_config: {path} is not YAML: {error}") from None
    try:
        _checked("the file", data, SECTIONS)
        ts, model = (_section(data, name) for name in SECTIONS[1:])
        for metric in ts.values():
            _check_dimensions(metric)
    except _Wrong as wrong:
        raise MetricsConfigError(f"metrics_config: {path}: {wrong}") from None
    return MetricsConfig(ts, model)


class _Wrong(Exception):
    """The fault, without the file's name."""


def _section(data: Mapping[str, object], section: str) -> dict[str, Metric]:
    kinds = _checked(section, data.get(section) or {}, KINDS)
    metrics: dict[str, Metric] = {}
    for kind, items in kinds.items():
        listed = items or []
        if not isinstance(listed, list):
            raise _Wrong(f"{section}.{kind} must be a list of metrics")
        for number, item in enumerate(listed, start=1):
            metric = _metric(f"{section}.{kind}, entry {number}", kind, item)
            if metric.name in metrics:
                raise _Wrong(f"{section}: {metric.name} is listed twice")
            metrics[metric.name] = metric
    return metrics


def _metric(where: str, kind: str, item: object) -> Metric:
    given = _checked(where, item, ("name", "unit", "dimensions"))
    name, unit = (_text(where, key, given.get(key)) for key in ("name", "unit"))
    dimensions = given.get("dimensions")
    if not isinstance(dimensions, list) or not all(isinstance(d, str) and d for d in dimensions):
        raise _Wrong(f"{where}: dimensions must be a list of names, but is {dimensions!r}")
    if len(set(dimensions)) < len(dimensions):
        raise _Wrong(f"{where}: a dimension is named twice: {', '.join(dimensions)}")
    return Metric(name, kind, tuple(dimensions), HELP.format(kind=kind, unit=unit), unit)


def _text(where: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong(f"{where}: {key} must be a text that is not empty, but is {value!r}")
    return value


def _checked(where: str, data: object, allowed: tuple[str, ...]) -> dict[str, object]:
    """The data, if it is a mapping with no other keys."""
    if not isinstance(data, dict):
        raise _Wrong(f"{where} must have keys: {', '.join(allowed)}")
    if unknown := [str(key) for key in data if key not in allowed]:
        raise _Wrong(f"{where}: unknown key {', '.join(unknown)}; allowed are {', '.join(allowed)}")
    return data


def _check_dimensions(metric: Metric) -> None:
    wanted = DIMENSIONS.get(metric.name)
    if wanted is not None and len(metric.labels) != wanted:
        raise _Wrong(
            f"ts_metrics: {metric.name} needs {wanted} dimensions, the last one for the host, "
            f"but has {len(metric.labels)}: {', '.join(metric.labels)}"
        )
