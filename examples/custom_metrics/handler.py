"""A handler that measures what it does. Its model is a count of words."""

import time

from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes
from ts.utils.util import PredictionException


class CountingHandler:
    """Answers `{"words": 3}` for a text. Any class with `initialize` and `handle` can be a handler."""

    def initialize(self, context):
        metrics = context.metrics
        self.texts = metrics.add_metric_to_cache("TextsTotal", "count", ["ModelName", "Language"])
        self.lengths = metrics.add_metric_to_cache(
            "TextLength", "count", ["ModelName"], MetricTypes.HISTOGRAM
        )

    def handle(self, data, context):
        began = time.perf_counter()
        answers = [self._count(index, row, context) for index, row in enumerate(data)]
        context.metrics.add_time("CountTime", 1000 * (time.perf_counter() - began))
        return answers

    def _count(self, index, row, context):
        text = row.get("data") or row.get("body")
        if not isinstance(text, str):
            context.metrics.add_counter("NotText", 1, index)
            raise PredictionException("Send a text with Content-Type: text/plain", 400)
        language = context.get_request_header(index, "Content-Language") or "unknown"
        request = context.get_request_id(index)
        self.texts.add_or_update(1, [context.model_name, language], request)
        self.lengths.add_or_update(len(text), [context.model_name], request)
        size = len(text.encode())
        context.metrics.add_size("TextSize", size, index, "B", [Dimension("Language", language)])
        return {"words": len(text.split())}
