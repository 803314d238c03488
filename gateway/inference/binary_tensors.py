"""The binary data extension of the open inference protocol over REST: tensors behind the JSON of a request.

The clients of Triton and KServe send NumPy arrays so, unless they are asked for JSON.
"""

import json

from gateway.asgi import JSON_TYPE, Headers
from gateway.inference import tensors
from gateway.inference.tensors import BadTensor, Document
from marq.errors import BadRequest

HEADER = b"inference-header-content-length"  # bytes of the JSON
SIZE = "binary_data_size"  # the parameter of an input: its bytes behind the JSON
REPLACED = (HEADER, b"content-type", b"content-length")


def json_size(headers: Headers) -> int | None:
    """The bytes of a request that are JSON; None: all of them. Raises BadRequest."""
    for name, value in headers:
        if name.lower() == HEADER:
            if value.isdigit() and len(value) < 20:
                return int(value)
            raise BadRequest(f"{HEADER.decode()} must be a number of bytes, not {value[:40]!r}.")
    return None


def headers_of_json(headers: Headers) -> Headers:
    """The headers of the same request without binary tensors."""
    return [JSON_TYPE, *(header for header in headers if header[0].lower() not in REPLACED)]


def to_json(body: bytes, size: int) -> bytes:
    """The same request with the contents of all tensors in its JSON, which has `size` bytes before.

    Raises BadRequest.
    """
    try:
        document = json.loads(body[:size])
        inputs = document["inputs"]
        position = size
        for given in inputs:
            position = _take(given, body, position)
        if position != len(body):
            raise BadTensor(f"the request has {len(body)} bytes, but JSON and tensors have {position}.")
        return tensors.dumped(document)
    except BadTensor as error:
        raise BadRequest(str(error)) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadRequest(
            "The request is not one of the open inference protocol, a JSON object with inputs of name, "
            f"datatype, shape and data or the parameter {SIZE}: {type(error).__name__}: {error}"
        ) from None


def _take(given: Document, body: bytes, position: int) -> int:
    """Gives an input its contents; returns the position behind them. Raises BadTensor."""
    parameters = given.get("parameters") or {}
    if SIZE not in parameters:
        return position
    size: int = parameters.pop(SIZE)
    if not parameters:
        del given["parameters"]
    end = position + size
    if size < 0 or end > len(body):
        raise BadTensor(
            f"Input {given['name']!r}: {SIZE} is {size}, but {len(body) - position} bytes are left."
        )
    kind, shape = tensors.kind_of(given["datatype"]), [int(length) for length in given["shape"]]
    try:
        given["data"] = tensors.decode(kind, shape, body[position:end])
    except BadTensor as error:
        raise BadTensor(f"Input {given['name']!r}, {given['datatype']}: {error}") from None
    return end
