"""The metrics of a model: those that `metrics.yaml` lists, or the two that every model has."""

from pathlib import Path

import yaml

from ts.metrics.metric_cache_abstract import MetricCacheAbstract
from ts.metrics.metric_cache_errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCachePyYamlError,
    MetricsCacheValueError,
)
from ts.metrics.metric_type_enum import MetricTypes

DEFAULT_SPECIFICATION = {
    "gauge": [
        {"name": "HandlerTime", "unit": "ms", "dimensions": ["ModelName", "Level"]},
        {"name": "PredictionTime", "unit": "ms", "dimensions": ["ModelName", "Level"]},
    ]
}


class MetricsCacheYamlImpl(MetricCacheAbstract):
    """Without a file the cache is ready to use; with one, call `initialize_cache` once."""

    def __init__(self, config_file_path=None):
        super().__init__(config_file_path)
        self._specification = _read(config_file_path) if config_file_path else None
        if config_file_path is None:
            self.initialize_cache()

    def initialize_cache(self):
        for kind, metrics in self._model_metrics().items():
            try:
                metric_type = MetricTypes(kind)
            except ValueError as error:
                raise MetricsCacheKeyError(f"Invalid metric type: {error}") from error
            for metric in metrics or []:
                self._register(metric, metric_type)

    def _model_metrics(self):
        if self.config_file_path is None:
            return DEFAULT_SPECIFICATION
        try:
            model_metrics = (self._specification or {})["model_metrics"]
        except KeyError as error:
            raise MetricsCacheKeyError(f"'model_metrics' key not found in yaml file: {error}") from error
        if not model_metrics:
            raise MetricsCacheValueError("Missing `model_metrics` specification")
        return model_metrics

    def _register(self, metric, metric_type):
        try:
            name, unit, dimensions = metric["name"], metric["unit"], metric["dimensions"]
        except KeyError as error:
            raise MetricsCacheKeyError(f"Key not found in cache spec: {error}") from error
        self.add_metric_to_cache(name, unit, dimensions, metric_type)


def _read(path):
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MetricsCachePyYamlError(f"Error parsing file {path}: {error}") from error
    except OSError as error:
        raise MetricsCacheIOError(f"Error reading file {path}: {error}") from error
