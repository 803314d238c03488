"""`context.metrics`: named metrics, and one `add_*` verb for each unit."""

import abc
import copy

from ts.metrics.caching_metric import CachingMetric
from ts.metrics.dimension import Dimension
from ts.metrics.metric_cache_errors import (
    MetricsCacheKeyError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)
from ts.metrics.metric_type_enum import MetricTypes

LEVEL_MODEL = Dimension("Level", "Model")
LEVEL_ERROR = Dimension("Level", "Error")
TIME_UNITS = ("ms", "s")
SIZE_UNITS = ("MB", "kB", "GB", "B")


class MetricCacheAbstract(abc.ABC):
    def __init__(self, config_file_path=None):
        self.cache = {}
        self.store = []
        self.request_ids = None
        self.model_name = None
        self.config_file_path = config_file_path

    @abc.abstractmethod
    def initialize_cache(self):
        """Fill the cache with the metrics that are specified ahead of use."""

    def __deepcopy__(self, memo):
        """A copy has request ids of its own and shares the metrics, so that names stay known."""
        return copy.copy(self)

    def set_request_ids(self, request_ids):
        self.request_ids = request_ids

    def cache_keys(self):
        return [f"{kind.value}:{name}" for kind, metrics in self.cache.items() for name in metrics]

    def add_metric(self, name, value, unit, idx=None, dimensions=None, metric_type=MetricTypes.COUNTER):
        """Emit `value`. The first use of a name fixes its unit and its dimension names."""
        self._emit(name, value, unit, self._request_id(idx), self._with_model(dimensions), metric_type)

    def add_counter(self, name, value, idx=None, dimensions=None):
        self.add_metric(name, value, "count", idx, dimensions, MetricTypes.COUNTER)

    def add_time(self, name, value, idx=None, unit="ms", dimensions=None, metric_type=MetricTypes.GAUGE):
        if unit not in TIME_UNITS:
            raise MetricsCacheValueError("the unit for a timed metric should be one of ['ms', 's']")
        self.add_metric(name, value, unit, idx, dimensions, metric_type)

    def add_size(self, name, value, idx=None, unit="MB", dimensions=None, metric_type=MetricTypes.GAUGE):
        if unit not in SIZE_UNITS:
            raise ValueError("The unit for size based metric is one of ['MB','kB', 'GB', 'B']")
        self.add_metric(name, value, unit, idx, dimensions, metric_type)

    def add_percent(self, name, value, idx=None, dimensions=None, metric_type=MetricTypes.GAUGE):
        self.add_metric(name, value, "percent", idx, dimensions, metric_type)

    def add_error(self, name, value, dimensions=None):
        """Count an error; it belongs to no request."""
        dimensions = [] if dimensions is None else dimensions
        _add_missing(dimensions, LEVEL_ERROR)
        self._emit(name, value, "", "", dimensions, MetricTypes.COUNTER)

    def add_metric_to_cache(self, metric_name, unit, dimension_names=[], metric_type=MetricTypes.COUNTER):
        """Register a metric, or replace one of the same name and type; emits nothing."""
        _check(metric_name, unit, dimension_names, metric_type)
        metric = CachingMetric(metric_name, unit, dimension_names and list(dimension_names), metric_type)
        self.cache.setdefault(metric_type, {})[metric_name] = metric
        return metric

    def get_metric(self, metric_name, metric_type=MetricTypes.COUNTER):
        try:
            return self.cache[metric_type][metric_name]
        except KeyError:
            raise MetricsCacheKeyError(
                f"Metric of type '{metric_type}' and name '{metric_name}' doesn't exist"
            ) from None

    def _emit(self, name, value, unit, request_id, dimensions, metric_type):
        metric = self.cache.get(metric_type, _NOTHING).get(name)
        if metric is None:
            names = [dimension.name for dimension in dimensions]
            metric = self.add_metric_to_cache(name, unit, names, metric_type)
        metric.add_or_update(value, [dimension.value for dimension in dimensions], request_id)

    def _request_id(self, idx):
        """The id of request `idx`; all ids of the batch if `idx` is not a position in it."""
        ids = self.request_ids
        if not ids or isinstance(ids, str):
            return ids or ""
        return ids[idx] if idx in ids else ",".join(ids.values())

    def _with_model(self, dimensions):
        if dimensions is None:
            return [Dimension("ModelName", self.model_name), LEVEL_MODEL]
        _add_missing(dimensions, Dimension("ModelName", self.model_name))
        _add_missing(dimensions, LEVEL_MODEL)
        return dimensions


_NOTHING = {}


def _add_missing(dimensions, default):
    if all(dimension.name != default.name for dimension in dimensions):
        dimensions.append(default)


def _check(metric_name, unit, dimension_names, metric_type):
    if not isinstance(metric_name, str):
        raise MetricsCacheTypeError("`metric_name` must be a str")
    if not isinstance(unit, str):
        raise MetricsCacheTypeError("`unit` must be a str")
    if dimension_names and not isinstance(dimension_names, list):
        raise MetricsCacheTypeError("`dimension_names` should be a list of dimension name strings")
    if not isinstance(metric_type, MetricTypes):
        raise MetricsCacheTypeError("`metric_type` must be a MetricTypes enum")
