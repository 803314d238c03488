"""One value with its unit, dimensions and request (an older class that handlers still create)."""

import time

from ts.metrics.caching_metric import HOSTNAME
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.unit import UNITS


class Metric:
    def __init__(self, name, value, unit, dimensions, request_id=None, metric_method=None):
        self.name = name
        self.value = value
        self.unit = UNITS.get(unit, unit)
        self.dimensions = dimensions
        self.request_id = request_id
        self.metric_method = metric_method
        self.metric_type = MetricTypes.COUNTER if metric_method == "counter" else MetricTypes.GAUGE

    def update(self, value):
        """Counters add up; everything else keeps the last value."""
        self.value = self.value + value if self.metric_method == "counter" else value

    def reset(self):
        self.value = 0

    def __str__(self):
        dimensions = ",".join(str(dimension) for dimension in self.dimensions)
        ids = f",{self.request_id}" if self.request_id else ""
        return (
            f"{self.name}.{self.unit}:{self.value}|#{dimensions}|#hostname:{HOSTNAME},{int(time.time())}{ids}"
        )

    def to_dict(self):
        return {
            "MetricName": self.name,
            "Value": self.value,
            "Unit": self.unit,
            "Dimensions": self.dimensions,
            "Timestamp": int(time.time()),
            "HostName": HOSTNAME,
            "RequestId": self.request_id,
        }
