"""KServe protocol v2 (Open Inference Protocol): named tensors in, named tensors out."""

import numpy as np

from ._rows import check_list, payload, split
from .base import BaseEnvelope

PARSED = object()  # key of a row under which `check` keeps the parsed body
DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


class KServev2Envelope(BaseEnvelope):
    """The inputs of all requests make one batch, each a dict `name, shape, datatype, data`.

    `context.input_names` lists the names over the whole batch; `context.input_request_id` is the id in
    the body of a single request, and a list of them for several.
    """

    _rows = ()

    def check(self, row):
        body = payload(row)
        check_list(body, "inputs")
        try:
            row[PARSED] = _Row(body)
        except (LookupError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"Each input must have name, shape, datatype and data that fit ({reason})."
            ) from error

    def parse_input(self, data):
        self._rows = [row.pop(PARSED) for row in data]
        ids = [row.id for row in self._rows]
        self.context.input_request_id = ids[0] if len(ids) == 1 else ids
        self.context.input_names = [name for row in self._rows for name in row.names]
        return [value for row in self._rows for value in row.inputs]

    def format_output(self, data):
        parts = split(data, [len(row.names) for row in self._rows])
        return [
            self._answer(index, row, part)
            for index, (row, part) in enumerate(zip(self._rows, parts, strict=True))
        ]

    def _answer(self, index, row, results):
        model = (self.context.manifest or {}).get("model") or {}
        return {
            "id": row.id or self.context.get_request_id(index),
            "model_name": model.get("modelName", self.context.model_name),
            "model_version": model.get("modelVersion"),
            "outputs": [_output(row.name(position), result) for position, result in enumerate(results)],
        }


class _Row:
    """The body of one request."""

    def __init__(self, body):
        self.id = body.get("id")
        self.inputs = [_input(given) for given in body["inputs"]]
        self.names = [given["name"] for given in self.inputs]

    def name(self, position):
        return self.names[position] if position < len(self.names) else f"output-{position}"


def _input(given):
    data = given["data"]
    if given.get("datatype") == "BYTES":
        return {**given, "data": data[0]}
    return {**given, "data": np.asarray(data).reshape(given["shape"]).tolist()}


def _output(name, result):
    values = np.asarray(result.decode() if isinstance(result, (bytes, bytearray)) else result)
    flat = values.reshape(-1)
    return {
        "name": name,
        "datatype": DATATYPES.get(values.dtype.name, "BYTES"),
        "data": flat.tolist(),
        "shape": list(flat.shape),
    }
