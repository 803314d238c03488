import json

import numpy as np
import pytest

from gateway.inference import binary_tensors
from marq.errors import BadRequest


def request(*inputs, tail=b"", **more):
    document = json.dumps({"inputs": list(inputs), **more}).encode()
    return document + tail, len(document)


def binary(values, name="x", datatype="FP32", **parameters):
    size = {"binary_data_size": values.nbytes, **parameters}
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "parameters": size}


def test_tensors_behind_the_json_become_its_data():
    first, second = np.arange(6, dtype="<f4").reshape(2, 3), np.array([-1, 2**40], "<i8")
    plain = {"name": "p", "shape": [2], "datatype": "INT8", "data": [1, 2]}
    body, size = request(
        binary(first, kept=True), plain, binary(second, "y", "INT64"),
        tail=first.tobytes() + second.tobytes(), id="7",
    )  # fmt: skip
    found = json.loads(binary_tensors.to_json(body, size))
    assert found["id"] == "7"
    x, p, y = found["inputs"]
    assert (x["data"], x["parameters"]) == ([0, 1, 2, 3, 4, 5], {"kept": True})
    assert p == plain
    assert y == {"name": "y", "shape": [2], "datatype": "INT64", "data": [-1, 2**40]}


def test_numbers_that_json_lacks_arrive():
    values = np.array([np.nan, np.inf], "<f4")
    body, size = request(binary(values), tail=values.tobytes())
    data = json.loads(binary_tensors.to_json(body, size))["inputs"][0]["data"]
    assert np.isnan(data[0]) and data[1] == np.inf


ONE = np.ones(1, "<f4")


@pytest.mark.parametrize(
    ("body", "size", "reason"),
    [
        (*request(binary(ONE), tail=b"123"), "binary_data_size is 4, but 3 bytes are left"),
        (*request(binary(ONE), tail=b"12345"), "bytes, but JSON and tensors have"),
        (*request(binary(ONE, datatype="FP33"), tail=b"1234"), "datatype must be one of"),
        (*request({**binary(ONE), "shape": [2]}, tail=b"1234"), "Input 'x', FP32: shape .2. needs 8 bytes"),
        (*request({**binary(ONE), "shape": "a"}, tail=b"1234"), "not one of the open inference protocol"),
        (*request({**binary(ONE), "parameters": {"binary_data_size": -4}}), "binary_data_size is -4"),
        (*request({**binary(ONE), "parameters": {"binary_data_size": "4"}}), "open inference protocol"),
        (*request({"name": "x", "shape": [1], "datatype": "FP32"}), "open inference protocol"),
        (b"[1]", 3, "open inference protocol"),
        (b"{", 1, "open inference protocol"),
        (b"", 10**18, "open inference protocol"),
    ],
)
def test_a_wrong_request_is_refused(body, size, reason):
    with pytest.raises(BadRequest, match=reason):
        binary_tensors.to_json(body, size)


@pytest.mark.parametrize("value", [b"-1", b"x", b"", b"9" * 30])
def test_a_wrong_size_of_the_json_is_refused(value):
    with pytest.raises(BadRequest, match="must be a number of bytes"):
        binary_tensors.json_size([(b"Inference-Header-Content-Length", value)])


def test_handlers_get_the_headers_of_json():
    given = [(b"Content-Type", b"application/octet-stream"), (b"Content-Length", b"9"), (b"x-a", b"1")]
    given.append((b"Inference-Header-Content-Length", b"5"))
    assert binary_tensors.headers_of_json(given) == [(b"content-type", b"application/json"), (b"x-a", b"1")]
