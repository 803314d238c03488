"""The interface of all metrics."""

import abc

from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.unit import UNITS


class MetricAbstract(abc.ABC):
    def __init__(self, metric_name, unit, dimension_names=None, metric_type=MetricTypes.COUNTER):
        self.metric_name = metric_name
        self.unit = UNITS.get(unit, unit)
        self.dimension_names = dimension_names or []
        self.metric_type = metric_type

    @abc.abstractmethod
    def add_or_update(self, value, dimension_values=[], request_id=""):
        """Record `value` for the series with these dimension values."""

    @abc.abstractmethod
    def update(self, value, request_id="", dimensions=[]):
        """Record `value`; `dimensions` are `Dimension` objects."""
