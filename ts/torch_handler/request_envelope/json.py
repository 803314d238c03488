"""TensorFlow-style JSON: `{"instances": [...]}` in, `{"predictions": [...]}` out."""

import json
from base64 import b64decode

from ._rows import check_list, payload, split
from .base import BaseEnvelope


class JSONEnvelope(BaseEnvelope):
    """The instances of all requests make one batch; `{"b64": ...}` items become bytes."""

    _lengths = ()

    def check(self, row):
        check_list(payload(row, default=row), "instances")

    def parse_input(self, data):
        rows = [[_decoded(item) for item in payload(row, default=row)["instances"]] for row in data]
        self._lengths = [len(row) for row in rows]
        return [item for row in rows for item in row]

    def format_output(self, data):
        return [json.dumps({"predictions": part}) for part in split(data, self._lengths)]


def _decoded(item):
    if not isinstance(item, dict):
        return item
    if set(item) == {"b64"}:
        return b64decode(item["b64"])
    return {key: _decoded(value) if _is_b64(value) else value for key, value in item.items()}


def _is_b64(value):
    return isinstance(value, dict) and set(value) == {"b64"}
