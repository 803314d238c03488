import importlib
import json

import pytest

from ts.context import Context, RequestProcessor
from ts.utils.util import PredictionException, list_classes_from_module


def answer(envelope, rows, handle=lambda data: data, headers=None):
    """What an envelope makes of the rows of a batch, and the context it had."""
    module = importlib.import_module(f"ts.torch_handler.request_envelope.{envelope}")
    context = Context("m", "/d", {"model": {"modelName": "mnist", "modelVersion": "2.0"}}, 1, None, "0.12.0")
    headers = headers or [{}] * len(rows)
    context.request_processor = [RequestProcessor(each) for each in headers]
    context.request_ids = {index: f"id-{index}" for index in range(len(rows))}
    made = list_classes_from_module(module)[0](lambda data, _: handle(data))
    return made.handle(rows, context), context


def test_body_is_the_plain_value_of_each_request():
    rows = [{"data": 1}, {"body": 2}, {"data": b"", "body": b"x"}]
    assert answer("body", rows)[0] == [1, 2, b"x"]


def test_json_makes_one_batch_of_all_instances_and_splits_the_answer():
    rows = [{"body": {"instances": [1, 2]}}, {"data": {"instances": []}}, {"instances": [3]}]
    answers, _ = answer("json", rows, lambda data: [value * 10 for value in data])
    assert answers == ['{"predictions": [10, 20]}', '{"predictions": []}', '{"predictions": [30]}']


def test_json_decodes_base64_items_and_values():
    seen = []
    items = [{"b64": "YWI="}, {"image": {"b64": "YWI="}, "size": 3}, {"b64": "YWI=", "other": 1}]
    answer("json", [{"body": {"instances": items}}], lambda data: seen.extend(data) or [0] * 3)
    assert seen == [b"ab", {"image": b"ab", "size": 3}, {"b64": "YWI=", "other": 1}]


@pytest.mark.parametrize("body", [b'{"instances": [1]}', bytearray(b'{"instances": [1]}')])
@pytest.mark.parametrize("envelope", ["json", "kserve"])
def test_a_body_that_came_as_bytes_is_parsed(envelope, body):
    result = answer(envelope, [{"body": body}])[0][0]
    assert (json.loads(result) if envelope == "json" else result) == {"predictions": [1]}


def test_kserve_answers_every_request_of_a_batch():
    rows = [{"body": {"instances": [1, 2]}}, {"body": {"instances": [3]}}]
    headers = [{}, {"explain": "True"}]
    answers, _ = answer("kserve", rows, lambda data: [value + 1 for value in data], headers)
    assert answers == [{"predictions": [2, 3]}, {"explanations": [4]}]


def test_a_single_kserve_request_owns_whatever_the_handler_returns():
    assert answer("kserve", [{"body": {"instances": [1, 2]}}], lambda _: [7])[0] == [{"predictions": [7]}]


@pytest.mark.parametrize("envelope", ["json", "kserve"])
def test_results_that_cannot_be_told_apart_are_refused(envelope):
    rows = [{"body": {"instances": [1, 2]}}, {"body": {"instances": [3]}}]
    with pytest.raises(PredictionException, match="2 results for 3 inputs of 2 requests") as caught:
        answer(envelope, rows, lambda _: [1, 2])
    assert caught.value.error_code == 503


def test_describe_passes_through_an_envelope():
    described = answer("kserve", [{}], lambda data: [{"info": data}], [{"describe": "True"}])[0]
    assert described == [{"info": [{}]}]


def tensor(name="in", data=(1, 2, 3, 4), shape=(2, 2), datatype="FP32"):
    return {"name": name, "data": list(data), "shape": list(shape), "datatype": datatype}


@pytest.mark.parametrize(
    ("envelope", "good", "bad"),
    [
        ("json", {"instances": [1]}, b"no JSON"),
        ("json", {"instances": [1]}, {"instances": 1}),
        ("kserve", {"instances": [1]}, b""),
        ("kserve", {"instances": [1]}, b"{"),
        ("kserve", {"instances": [1]}, [1]),
        ("kservev2", {"inputs": [tensor()]}, {"inputs": [{"name": "a"}]}),
        ("kservev2", {"inputs": [tensor()]}, {"inputs": [tensor(shape=(3, 3))]}),
        ("kservev2", {"inputs": [tensor()]}, {"inputs": "none"}),
    ],
)
def test_a_request_that_cannot_be_read_is_answered_alone(envelope, good, bad):
    rows = [{"body": bad}, {"body": good}, {"body": bad}]
    headers = [{}, {"explain": "True"}, {}]
    answers, context = answer(envelope, rows, lambda data: [7] * len(data), headers)
    assert [context.get_response_status(index)[0] for index in range(3)] == [400, 200, 400]
    refusal = json.loads(answers[0])
    assert (refusal["code"], refusal["type"]) == (400, "BadRequestException")
    assert context.get_response_content_type(0) == "application/json"
    expected = {
        "json": '{"predictions": [7]}',
        "kserve": {"explanations": [7]},
    }
    assert answers[1] == expected[envelope] if envelope in expected else answers[1]["id"] == "id-1"
    assert context.request_ids[2] == "id-2"


def test_the_handler_is_not_called_for_a_batch_that_cannot_be_read():
    answers, _ = answer("kserve", [{"body": b"{"}], lambda data: pytest.fail("called"))
    assert len(answers) == 1


def test_kserve_v2_gives_reshaped_inputs_and_names_the_outputs():
    seen = []
    body = {"id": "own", "inputs": [tensor(), tensor("text", ["abc"], [1], "BYTES")]}
    answers, context = answer("kservev2", [{"body": body}], lambda data: seen.extend(data) or [1.5, "x"])
    assert [given["data"] for given in seen] == [[[1, 2], [3, 4]], "abc"]
    assert (context.input_names, context.input_request_id) == (["in", "text"], "own")
    assert answers == [
        {
            "id": "own",
            "model_name": "mnist",
            "model_version": "2.0",
            "outputs": [
                {"name": "in", "datatype": "FP64", "data": [1.5], "shape": [1]},
                {"name": "text", "datatype": "BYTES", "data": ["x"], "shape": [1]},
            ],
        }
    ]
    json.dumps(answers)


def test_kserve_v2_answers_every_request_of_a_batch():
    rows = [
        {"body": {"inputs": [tensor("a"), tensor("b")]}},
        {"body": {"id": "two", "inputs": [tensor("c")]}},
    ]
    answers, context = answer("kservev2", rows, lambda data: [[index, 0] for index in range(len(data))])
    assert [each["id"] for each in answers] == ["id-0", "two"]
    assert [[out["name"] for out in each["outputs"]] for each in answers] == [["a", "b"], ["c"]]
    assert answers[1]["outputs"][0] == {"name": "c", "datatype": "INT64", "data": [2, 0], "shape": [2]}
    assert context.input_request_id == [None, "two"]


@pytest.mark.parametrize(
    ("result", "datatype"),
    [(True, "BOOL"), (1, "INT64"), ("a", "BYTES"), (b"a", "BYTES"), ({"a": 1}, "BYTES")],
)
def test_kserve_v2_names_the_datatype_of_a_result(result, datatype):
    answers, _ = answer("kservev2", [{"body": {"inputs": [tensor()]}}], lambda _: [result])
    assert answers[0]["outputs"][0]["datatype"] == datatype
