"""A metric that is written as one `[METRICS]` line per value."""

import logging
import socket
import time

from ts.metrics.metric_abstract import MetricAbstract
from ts.metrics.metric_type_enum import MetricTypes

logger = logging.getLogger(__name__)

HOSTNAME = socket.gethostname()

# Called with (metric, value, dimensions as text, request id) instead of writing a line, where it is set: a
# server's replica gathers what its handler measures, and writes it once a second.
gather = None


class CachingMetric(MetricAbstract):
    def __init__(self, metric_name, unit, dimension_names=None, metric_type=MetricTypes.COUNTER):
        super().__init__(metric_name, unit, dimension_names, metric_type)
        self._head = f"[METRICS]{metric_name}.{self.unit}:"
        self._tail = f"|#type:{metric_type.name}|#hostname:{HOSTNAME},"

    def add_or_update(self, value, dimension_values=[], request_id=""):
        """Write the line. Values and dimensions of the wrong type or number are logged, never raised."""
        reason = self._refusal(value, dimension_values)
        if reason is None:
            self.emit_metrics(value, dimension_values, request_id)
            return
        logger.error(
            "[METRICS]Failed to update metric with name:%s and dimensions: %s with value: %s: %s",
            self.metric_name,
            self._dimensions(dimension_values) if self._fits(dimension_values) else "",
            value,
            reason,
        )

    def update(self, value, request_id="", dimensions=[]):
        """The older form: the names of `dimensions` replace the metric's own."""
        names = [dimension.name for dimension in dimensions]
        if names and names != self.dimension_names:
            logger.warning("Overriding existing dimensions")
            self.dimension_names = names
        self.add_or_update(value, [dimension.value for dimension in dimensions], request_id)

    def emit_metrics(self, value, dimension_values=[], request_id=""):
        if not logger.isEnabledFor(logging.INFO):
            return
        dimensions = self._dimensions(dimension_values)
        if gather:
            gather(self, value, dimensions, request_id)
        else:
            logger.info("%s", self.line(value, dimensions, request_id, time.time()))

    def line(self, value, dimensions, request_id, when):
        """The metric line of a value; `dimensions` is a text, `when` unix seconds."""
        ids = f",{request_id}" if request_id else ""
        return f"{self._head}{value}|#{dimensions}{self._tail}{int(when)}{ids}"

    def _dimensions(self, values):
        return ",".join([f"{name}:{value}" for name, value in zip(self.dimension_names, values, strict=True)])

    def _fits(self, values):
        return len(values) == len(self.dimension_names)

    def _refusal(self, value, dimension_values):
        if not self._fits(dimension_values):
            return (
                f"Dimension values: {dimension_values} should correspond to "
                f"Dimension names: {self.dimension_names}"
            )
        if self.metric_type is MetricTypes.COUNTER and value < 0:
            return "Counter metric update value cannot be negative"
        return None
