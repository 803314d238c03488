import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inference import tensors
from gateway.inference.tensors import KINDS, BadTensor

NUMPY = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1",
    "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


@pytest.mark.parametrize("datatype", NUMPY)
@settings(deadline=None)
@given(data=st.data())
def test_raw_contents_are_those_of_numpy(datatype, data):
    bytes_ = data.draw(st.binary(max_size=64))
    if datatype == "BOOL":
        bytes_ = bytes(each & 1 for each in bytes_)
    kind, dtype = KINDS[datatype], np.dtype(NUMPY[datatype])
    values = np.frombuffer(bytes_[: len(bytes_) // kind.size * kind.size], dtype)
    elements = tensors.decode(kind, [len(values)], values.tobytes())
    assert np.array_equal(np.array(elements, dtype), values, equal_nan=values.dtype.kind == "f")
    again = np.frombuffer(kind.encode(elements), dtype)
    assert np.array_equal(again, values, equal_nan=values.dtype.kind == "f")


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_subnormal=False)))
def test_bf16_is_the_nearest_upper_half_of_a_float(values):
    kind = KINDS["BF16"]
    encoded = kind.encode(values)
    for value, got in zip(values, tensors.decode(kind, [len(values)], encoded), strict=True):
        if math.isnan(value):
            assert math.isnan(got)
        elif math.isfinite(got):
            assert abs(value - got) <= abs(value) / 256
        else:
            assert abs(value) >= 3.38e38  # rounded up, or an infinity
    assert kind.encode(tensors.decode(kind, [len(values)], encoded)) == encoded


def test_bf16_has_known_values():
    assert KINDS["BF16"].encode([1.0, -2.0, 1.00390625]) == struct.pack("<3H", 0x3F80, 0xC000, 0x3F80)


@settings(deadline=None)
@given(st.lists(st.text(max_size=5)))
def test_bytes_have_their_lengths_before_them(values):
    kind = KINDS["BYTES"]
    encoded = kind.encode(values)
    assert tensors.decode(kind, [len(values)], encoded) == [tensors.text_of(each.encode()) for each in values]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "message"),
    [
        ("FP32", [1, 3], bytes(8), r"shape \[1, 3\] needs 12 bytes, but the contents have 8"),
        ("FP32", [-1], bytes(7), "elements have 4 bytes each, but the contents have 7"),
        ("FP32", [-2], bytes(8), r"needs -8 bytes|must not be negative"),
        ("BYTES", [1], b"\0\0", "end inside the length of an element"),
        ("BYTES", [1], b"\5\0\0\0abc", "an element of 5 bytes ends behind the contents"),
        ("BYTES", [2], b"\1\0\0\0a", r"shape \[2\] has 2 elements, but the contents have 1"),
    ],
)
def test_contents_that_do_not_fit_are_refused(datatype, shape, raw, message):
    with pytest.raises(BadTensor, match=message):
        tensors.decode(KINDS[datatype], shape, raw)


def test_a_shape_with_minus_1_has_any_number_of_elements():
    assert tensors.decode(KINDS["INT8"], [-1], b"\1\2\3") == [1, 2, 3]


def test_lists_inside_lists_are_flattened():
    assert tensors.flat([[1, [2]], [], [[3], 4]]) == [1, 2, 3, 4]
    assert tensors.flat(5) == [5]
