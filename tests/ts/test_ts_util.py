import json
import os
import pickle
import types

import pytest

from ts.context import Context
from ts.handler_utils.timer import timed
from ts.handler_utils.utils import import_class, send_intermediate_predict_response
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.protocol import otf_message_handler
from ts.utils.timeit_decorator import timeit
from ts.utils.util import (
    CLEANUP_REGEX,
    PredictionException,
    check_valid_pt2_backend,
    deprecated,
    get_yaml_config,
    list_classes_from_module,
    load_label_mapping,
    map_class_to_label,
)


@pytest.mark.parametrize(
    ("content", "mapping"),
    [
        ({"0": "cat"}, {"0": "cat"}),
        ({"0": ["n01", "cat"]}, {"0": "cat"}),
        ({"object_type_names": ["cat", "dog"]}, {"0": "cat", "1": "dog"}),
    ],
)
def test_label_files_come_in_three_forms(tmp_path, content, mapping):
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content))
    assert load_label_mapping(path) == mapping


@pytest.mark.parametrize(
    ("content", "message"),
    [([1], 'should be in "class": "label" format'), ({"0": 3}, "must be either str or List")],
)
def test_a_bad_label_file_says_what_it_should_be(tmp_path, content, message):
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Exception, match=message):
        load_label_mapping(path)


def test_a_missing_label_file_is_only_a_warning(tmp_path, caplog):
    assert load_label_mapping(tmp_path / "none.json") is None
    assert "Inference output will not include class name." in caplog.text


def test_probabilities_get_labels_in_the_order_of_the_classes():
    assert map_class_to_label([[0.9, 0.1]]) == [{"0": 0.9, "1": 0.1}]
    labelled = map_class_to_label([[0.9, 0.1]], {"0": "a", "1": "b"}, [[1, 0]])
    assert list(labelled[0].items()) == [("b", 0.9), ("a", 0.1)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(((1,),), "Convert classes to list"), (([[1]], [1]), "Mapping must be a dict"), (([[1]], {}), "0")],
)
def test_what_cannot_be_labelled_is_an_error(arguments, error):
    with pytest.raises(Exception, match=error):
        map_class_to_label(*arguments)


def test_only_classes_defined_in_a_module_are_listed():
    module = types.ModuleType("made")
    exec("from json import JSONDecoder\nclass B: pass\nclass A(B): pass", module.__dict__)
    assert [cls.__name__ for cls in list_classes_from_module(module)] == ["A", "B"]
    assert [cls.__name__ for cls in list_classes_from_module(module, module.A)] == ["A"]


def test_a_prediction_exception_carries_its_code():
    error = PredictionException("busy", 503)
    assert (error.message, error.error_code, str(error)) == ("busy", 503, "busy : 503")
    assert pickle.loads(pickle.dumps(error)).error_code == 503
    assert PredictionException("x").error_code == 500


def test_yaml_is_read_and_an_empty_file_is_an_empty_mapping(tmp_path):
    path = tmp_path / "model-config.yaml"
    path.write_text("handler: {profile: on}")
    assert get_yaml_config(path) == {"handler": {"profile": True}}
    path.write_text("")
    assert get_yaml_config(path) == {}


def test_html_is_cleaned_away():
    assert CLEANUP_REGEX.sub("", "<p>a&nbsp;b</p>&#39;") == "ab"


def test_only_known_backends_are_valid(caplog):
    assert check_valid_pt2_backend("inductor")
    assert not check_valid_pt2_backend("magic")
    assert "magic is not a supported backend" in caplog.text


def test_a_deprecated_function_warns_and_works():
    @deprecated(version="2.0", replacement="new")
    def old():
        return 1

    with pytest.warns(PendingDeprecationWarning, match="old is deprecated"):
        assert old() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "class name is not defined"),
        (("Name",), "module name is not defined."),
        (("json.Nope",), "class:Nope not found in module:json."),
    ],
)
def test_a_class_that_cannot_be_imported_is_named(arguments, message):
    with pytest.raises(ImportError, match=message):
        import_class(*arguments)


def test_a_class_is_imported_by_its_dotted_name():
    assert import_class("json.JSONDecoder") is import_class("JSONDecoder", "json") is json.JSONDecoder


class Socket:
    def __init__(self):
        self.chunks = []

    def stream(self, values, request_ids, status):
        self.chunks.append((values, request_ids, status))


@pytest.fixture
def context():
    made = Context("m", "/d", None, 1, None, "0.12.0", metrics=MetricsCacheYamlImpl())
    made.cl_socket = Socket()
    return made


def test_an_intermediate_answer_goes_to_the_socket_of_the_context(context):
    send_intermediate_predict_response(["a"], {0: "id"}, "ok", 200, context)
    assert context.cl_socket.chunks == [(["a"], {0: "id"}, 200)]


def test_only_rank_zero_sends_intermediate_answers(context, monkeypatch):
    for rank in ("1", "0"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        send_intermediate_predict_response([rank], {0: "id"}, "ok", 200, context)
    assert [chunk[0] for chunk in context.cl_socket.chunks] == [["0"]]


def test_the_old_place_of_the_function_still_works_and_warns(context):
    with pytest.warns(PendingDeprecationWarning):
        otf_message_handler.send_intermediate_predict_response(["a"], {0: "id"}, "ok", 200, context)
    assert len(context.cl_socket.chunks) == 1


class Handler:
    context = None

    @timed
    def inference(self, value):
        return value + 1


def test_a_timed_method_emits_a_gauge_when_the_model_asks_for_it(context, caplog):
    caplog.set_level("INFO")
    handler = Handler()
    assert handler.inference(1) == 2
    handler.context = context
    assert handler.inference(1) == 2
    assert "ts_handler_inference" not in caplog.text
    context.model_yaml_config = {"handler": {"profile": True}}
    assert handler.inference(1) == 2
    assert "[METRICS]ts_handler_inference.Milliseconds:" in caplog.text


def test_timeit_logs_and_returns_the_result(caplog):
    caplog.set_level("INFO")
    assert timeit(os.path.basename)("/a/b") == "b"
    assert "basename took" in caplog.text
