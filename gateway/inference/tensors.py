"""Elements of tensors: from the bytes and lists of messages to lists for JSON, and back."""

import base64
import json
import math
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import orjson

Elements = list[Any]
Document = dict[str, Any]  # a request of the open inference protocol in JSON
Number = TypeVar("Number", int, float)
_LENGTH = struct.Struct("<I")  # of one element of BYTES
_SWAPPED = sys.byteorder == "big"  # raw contents are little-endian


@dataclass(frozen=True)
class Kind:
    """A data type. `field` of InferTensorContents: empty if it has none; `size` in bytes, 0: it varies."""

    field: str
    size: int
    decode: Callable[[bytes], Elements]
    encode: Callable[[Elements], bytes]


class BadTensor(ValueError):
    """Raised when contents do not fit the data type or the shape."""


def kind_of(datatype: str) -> Kind:
    """Raises BadTensor for a data type that does not exist."""
    try:
        return KINDS[datatype]
    except KeyError:
        raise BadTensor(f"datatype must be one of {', '.join(KINDS)}, not {datatype[:40]!r}.") from None


def check_shape(shape: Sequence[int], count: int) -> None:
    """Raises BadTensor unless the shape has so many elements; a shape with -1 may have any number."""
    if any(size < -1 for size in shape):
        raise BadTensor(f"shape {list(shape)}: sizes must not be negative.")
    if -1 not in shape and prod(shape) != count:
        raise BadTensor(f"shape {list(shape)} has {prod(shape)} elements, but the contents have {count}.")


def decode(kind: Kind, shape: Sequence[int], raw: bytes) -> Elements:
    """The elements of raw contents. Raises BadTensor."""
    if kind.size:
        expected = kind.size * prod(shape)
        if -1 not in shape and len(raw) != expected:
            raise BadTensor(f"shape {list(shape)} needs {expected} bytes, but the contents have {len(raw)}.")
        if len(raw) % kind.size:
            raise BadTensor(f"elements have {kind.size} bytes each, but the contents have {len(raw)}.")
    elements = kind.decode(raw)
    check_shape(shape, len(elements))
    return elements


def flat(data: object) -> Elements:
    """The elements of lists inside lists, row by row."""
    if not isinstance(data, list):
        return [data]
    if not any(isinstance(each, list) for each in data):
        return data
    return [element for each in data for element in flat(each)]


def dumped(document: Document) -> bytes:
    """NaN and infinities as Python's JSON writes them, which replicas read."""
    data = (each for tensor in document["inputs"] for each in flat(tensor["data"]))
    if all(math.isfinite(each) for each in data if isinstance(each, float)):
        return orjson.dumps(document)
    return json.dumps(document).encode()


def text_of(element: bytes) -> str:
    """An element of BYTES in JSON: base64, as in TorchServe."""
    return base64.b64encode(element).decode()


def bytes_of(element: object) -> bytes:
    """An element of BYTES of a handler's answer: a text, or JSON."""
    return (element if isinstance(element, str) else json.dumps(element)).encode()


def _packed(code: str) -> tuple[Callable[[bytes], Elements], Callable[[Elements], bytes]]:
    """How elements of one of array's types are decoded and encoded."""

    def read(raw: bytes) -> Elements:
        return _swapped(array(code, raw)).tolist()

    def write(elements: Elements) -> bytes:
        return _swapped(array(code, elements)).tobytes()

    return read, write


def _swapped(values: "array[Number]") -> "array[Number]":
    if _SWAPPED:
        values.byteswap()
    return values


def _decode_bytes(raw: bytes) -> Elements:
    found, position = [], 0
    while position < len(raw):
        if position + _LENGTH.size > len(raw):
            raise BadTensor("the contents end inside the length of an element.")
        (length,) = _LENGTH.unpack_from(raw, position)
        position += _LENGTH.size
        if position + length > len(raw):
            raise BadTensor(f"an element of {length} bytes ends behind the contents.")
        found.append(text_of(raw[position : position + length]))
        position += length
    return found


def _encode_bytes(elements: Elements) -> bytes:
    encoded = [bytes_of(element) for element in elements]
    return b"".join(_LENGTH.pack(len(each)) + each for each in encoded)


def _decode_half(raw: bytes) -> Elements:
    return list(struct.unpack(f"<{len(raw) // 2}e", raw))


def _encode_half(elements: Elements) -> bytes:
    return struct.pack(f"<{len(elements)}e", *elements)


def _decode_brain(raw: bytes) -> Elements:
    """BF16: the upper half of a 32-bit float."""
    upper = _swapped(array("H", raw))
    return array("f", array("I", (each << 16 for each in upper)).tobytes()).tolist()


def _encode_brain(elements: Elements) -> bytes:
    """Rounds to the nearest, half to even."""
    bits = array("I", array("f", elements).tobytes())
    return _swapped(array("H", _rounded(bits))).tobytes()


def _rounded(bits: Iterable[int]) -> Iterable[int]:
    for each in bits:
        is_nan = each & 0x7FFFFFFF > 0x7F800000
        yield (each >> 16) | 0x40 if is_nan else (each + 0x7FFF + ((each >> 16) & 1)) >> 16 & 0xFFFF


def _decode_bool(raw: bytes) -> Elements:
    return [byte != 0 for byte in raw]


KINDS = {
    "BOOL": Kind("bool_contents", 1, _decode_bool, lambda elements: bytes(map(bool, elements))),
    "INT8": Kind("int_contents", 1, *_packed("b")),
    "INT16": Kind("int_contents", 2, *_packed("h")),
    "INT32": Kind("int_contents", 4, *_packed("i")),
    "INT64": Kind("int64_contents", 8, *_packed("q")),
    "UINT8": Kind("uint_contents", 1, *_packed("B")),
    "UINT16": Kind("uint_contents", 2, *_packed("H")),
    "UINT32": Kind("uint_contents", 4, *_packed("I")),
    "UINT64": Kind("uint64_contents", 8, *_packed("Q")),
    "FP16": Kind("", 2, _decode_half, _encode_half),
    "BF16": Kind("", 2, _decode_brain, _encode_brain),
    "FP32": Kind("fp32_contents", 4, *_packed("f")),
    "FP64": Kind("fp64_contents", 8, *_packed("d")),
    "BYTES": Kind("bytes_contents", 0, _decode_bytes, _encode_bytes),
}
