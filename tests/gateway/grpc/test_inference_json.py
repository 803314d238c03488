import json
import math

import pytest

from gateway.grpc import inference_json
from gateway.grpc.inference_json import BadAnswer
from gateway.grpc.messages.open_inference_pb2 import InferParameter, InferTensorContents, ModelInferRequest
from gateway.inference.tensors import BadTensor

Input = ModelInferRequest.InferInputTensor


def request(*inputs, **given):
    return ModelInferRequest(model_name="m", inputs=inputs, **given)


def tensor(datatype, shape, **contents):
    return Input(name="x", datatype=datatype, shape=shape, contents=InferTensorContents(**contents))


def encoded(given):
    return json.loads(inference_json.encode(given))


@pytest.mark.parametrize(
    ("datatype", "contents", "data"),
    [
        ("BOOL", {"bool_contents": [True, False]}, [True, False]),
        ("INT8", {"int_contents": [-1, 2]}, [-1, 2]),
        ("INT32", {"int_contents": [-1, 2]}, [-1, 2]),
        ("INT64", {"int64_contents": [-(2**63), 2]}, [-(2**63), 2]),
        ("UINT16", {"uint_contents": [1, 2]}, [1, 2]),
        ("UINT64", {"uint64_contents": [1, 2**64 - 1]}, [1, 2**64 - 1]),
        ("FP32", {"fp32_contents": [0.5, 2]}, [0.5, 2.0]),
        ("FP64", {"fp64_contents": [0.1, 2]}, [0.1, 2.0]),
        ("BYTES", {"bytes_contents": [b"a", b"\xff"]}, ["YQ==", "/w=="]),
    ],
)
def test_typed_contents_are_the_data_of_the_json(datatype, contents, data):
    assert encoded(request(tensor(datatype, [2], **contents), id="7")) == {
        "id": "7", "model_name": "m",
        "inputs": [{"name": "x", "shape": [2], "datatype": datatype, "data": data}],
    }  # fmt: skip


def test_parameters_and_outputs_are_kept():
    given = request(
        Input(name="x", datatype="INT8", shape=[0], parameters={"p": InferParameter(string_param="s")}),
        parameters={"n": InferParameter(int64_param=3), "b": InferParameter(bool_param=False)},
        outputs=[ModelInferRequest.InferRequestedOutputTensor(name="y")],
    )
    found = encoded(given)
    assert found["parameters"] == {"n": 3, "b": False}
    assert found["inputs"][0]["parameters"] == {"p": "s"}
    assert found["outputs"] == [{"name": "y"}]


def test_numbers_that_json_does_not_have_reach_the_handler():
    given = request(tensor("FP32", [3], fp32_contents=[math.nan, math.inf, -math.inf]))
    data = encoded(given)["inputs"][0]["data"]
    assert math.isnan(data[0]) and data[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (request(tensor("FP32", [3], fp32_contents=[1])), r"Input 'x', FP32: shape \[3\] has 3 elements"),
        (request(tensor("FP16", [1], fp32_contents=[1])), "this type needs raw_input_contents"),
        (request(tensor("FP8", [1])), "datatype must be one of BOOL, INT8"),
        (request(tensor("INT8", [1]), raw_input_contents=[b"1", b"2"]), "has 2 tensors"),
        (request(tensor("FP32", [2]), raw_input_contents=[b"1234"]), "needs 8 bytes"),
    ],
)  # fmt: skip
def test_inputs_that_contradict_themselves_are_refused(given, message):
    with pytest.raises(BadTensor, match=message):
        inference_json.encode(given)


def answer(*outputs, **given):
    return json.dumps({"outputs": outputs, **given}).encode()


def output(datatype, data, name="y"):
    return {"name": name, "datatype": datatype, "shape": [2], "data": data}


def test_an_answer_has_typed_contents():
    found = inference_json.decode(
        answer(output("FP32", [[0.5], [2]]), output("BYTES", ["ü", {"a": 1}]), id="9"), request(), "1.0"
    )
    assert (found.model_name, found.model_version, found.id) == ("m", "1.0", "9")
    assert list(found.outputs[0].contents.fp32_contents) == [0.5, 2.0]
    assert list(found.outputs[1].contents.bytes_contents) == ["ü".encode(), b'{"a": 1}']
    assert list(found.outputs[0].shape) == [2]


def test_a_raw_request_has_a_raw_answer():
    given = request(tensor("INT8", [1]), raw_input_contents=[b"1"])
    found = inference_json.decode(answer(output("INT16", [1, -2]), output("BYTES", ["a", "b"])), given, "")
    assert list(found.raw_output_contents) == [b"\1\0\xfe\xff", b"\1\0\0\0a\1\0\0\0b"]
    assert not any(each.HasField("contents") for each in found.outputs)


def test_types_without_a_field_make_the_whole_answer_raw():
    found = inference_json.decode(answer(output("FP16", [1, 2]), output("INT8", [1, 2])), request(), "")
    assert list(found.raw_output_contents) == [b"\0\x3c\0\x40", b"\1\2"]


def test_outputs_that_were_not_asked_for_are_left_out():
    given = request(outputs=[ModelInferRequest.InferRequestedOutputTensor(name="z")])
    found = inference_json.decode(answer(output("INT8", [1, 2]), output("INT8", [3, 4], "z")), given, "")
    assert [each.name for each in found.outputs] == ["z"]


@pytest.mark.parametrize(
    "body",
    [
        b"text", b"[]", b"{}", b'{"outputs": [1]}', answer({"name": "y"}), answer(output("INT8", [1])),
        answer(output("INT9", [1, 2])), answer(output("INT32", [2**40, 1])),
        answer(output("FP32", ["a", "b"])),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_of_the_protocol_is_refused(body):
    with pytest.raises(BadAnswer, match="The answer is not one of the open inference protocol"):
        inference_json.decode(body, request(), "1.0")
