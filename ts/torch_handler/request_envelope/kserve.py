"""KServe protocol v1: `instances` in, `predictions` or `explanations` out."""

from ._rows import check_list, payload, split
from .base import BaseEnvelope


class KServeEnvelope(BaseEnvelope):
    """The instances of all requests make one batch."""

    _lengths = ()

    def check(self, row):
        check_list(payload(row), "instances")

    def parse_input(self, data):
        rows = [payload(row)["instances"] for row in data]
        if len(rows) == 1:
            self._lengths = (1,)
            return rows[0]
        self._lengths = [len(row) for row in rows]
        return [item for row in rows for item in row]

    def format_output(self, data):
        parts = split(data, self._lengths)
        return [{self._key(index): part} for index, part in enumerate(parts)]

    def _key(self, index):
        explains = self.context.get_request_header(index, "explain") == "True"
        return "explanations" if explains else "predictions"
