"""JSON for metrics and dimensions."""

import json

from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric


class MetricEncoder(json.JSONEncoder):
    def default(self, o):
        return o.to_dict() if isinstance(o, (Metric, Dimension)) else super().default(o)
