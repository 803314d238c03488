"""A store that collects metrics instead of writing them (older; `MockContext` uses it)."""

from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric


class MetricsStore:
    def __init__(self, request_ids, model_name):
        self.store = []
        self.request_ids = request_ids
        self.model_name = model_name
        self.cache = {}

    def add_counter(self, name, value, idx=None, dimensions=None):
        self._add(name, value, self._request_id(idx), "count", dimensions, "counter")

    def add_time(self, name, value, idx=None, unit="ms", dimensions=None):
        if unit not in ("ms", "s"):
            raise ValueError("the unit for a timed metric should be one of ['ms', 's']")
        self._add(name, value, self._request_id(idx), unit, dimensions)

    def add_size(self, name, value, idx=None, unit="MB", dimensions=None):
        if unit not in ("MB", "kB", "GB", "B"):
            raise ValueError("The unit for size based metric is one of ['MB','kB', 'GB', 'B']")
        self._add(name, value, self._request_id(idx), unit, dimensions)

    def add_percent(self, name, value, idx=None, dimensions=None):
        self._add(name, value, self._request_id(idx), "percent", dimensions)

    def add_metric(self, name, value, unit, idx=None, dimensions=None):
        self._add(name, value, self._request_id(idx), unit, dimensions)

    def add_error(self, name, value, dimensions=None):
        self._add(name, value, None, "", [*(dimensions or []), Dimension("Level", "Error")])

    def _add(self, name, value, request_id, unit, dimensions, method=None):
        if request_id is not None:
            model = [Dimension("ModelName", self.model_name), Dimension("Level", "Model")]
            dimensions = [*(dimensions or []), *model]
        dimensions = dimensions or []
        key = "-".join([name, unit, str(request_id), *map(str, dimensions)])
        if key in self.cache:
            self.cache[key].update(value)
            return
        metric = Metric(name, value, unit, dimensions, request_id, method)
        self.cache[key] = metric
        self.store.append(metric)

    def _request_id(self, idx):
        ids = self.request_ids
        if not isinstance(ids, dict) or not ids:  # unit tests of handlers give a UUID, or a list
            return ids or None
        return ids[idx] if idx in ids else ",".join(ids.values())
