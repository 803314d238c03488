import copy
import subprocess
import sys

import pytest

from ts.context import Context, RequestProcessor


@pytest.fixture
def context():
    made = Context("mnist", "/models/mnist", {"model": {}}, 4, 1, "0.12.0", model_yaml_config={"a": 1})
    made.request_processor = [RequestProcessor({"explain": "True"}), RequestProcessor({})]
    made.request_ids = {0: "first", 1: "second"}
    return made


def test_system_properties_hold_what_handlers_read(context):
    assert context.system_properties == {
        "model_dir": "/models/mnist",
        "gpu_id": 1,
        "batch_size": 4,
        "server_name": "MMS",
        "server_version": "0.12.0",
        "limit_max_image_pixels": True,
    }
    with pytest.raises(AttributeError):
        context.system_properties = {}


def test_request_ids_and_headers_are_found_by_position(context):
    assert context.get_request_id() == "first"
    assert context.get_request_id(7) is None
    assert context.get_request_header(0, "explain") == "True"
    assert context.get_request_header(1, "explain") is None
    context.request_ids = None
    assert context.get_request_id() is None


def test_the_status_of_one_request_or_of_all_can_be_set(context):
    assert context.get_response_status(0) == (200, None)
    context.set_response_status(code=404, phrase="Gone", idx=1)
    assert context.get_response_status(1) == (404, "Gone")
    context.set_all_response_status(code=202)
    assert [context.get_response_status(idx) for idx in (0, 1)] == [(202, ""), (202, "")]


def test_response_headers_belong_to_one_request(context):
    context.set_response_content_type(0, "image/png")
    context.set_response_header(0, "x-a", "b")
    assert context.get_response_headers(0) == {"content-type": "image/png", "x-a": "b"}
    assert context.get_response_content_type(0) == "image/png"
    assert context.get_response_headers(1) == {}
    assert context.get_response_content_type(1) is None


def test_old_handlers_report_through_the_request_processor(context):
    context.request_processor[0].report_status(500, "no")
    assert context.request_processor[0].get_response_status_code() == 500
    assert context.request_processor[0].get_response_status_phrase() == "no"


def test_request_headers_are_made_once_and_when_they_are_asked_for():
    made = []
    processor = RequestProcessor(lambda: made.append({"X-Who": "me"}) or made[-1])
    assert made == []
    assert processor.get_request_property("X-Who") == processor.get_request_property("x-who") == "me"
    assert processor.get_request_properties() is made[0]
    assert len(made) == 1


def test_a_header_of_exactly_this_name_wins_over_one_in_another_case():
    processor = RequestProcessor({"a": "lower", "A": "upper"})
    assert [processor.get_request_property(name) for name in ("a", "A", "b")] == ["lower", "upper", None]


def test_a_sequence_id_is_a_header(context):
    context.request_processor = [RequestProcessor({"ts_request_sequence_id": "s1"})]
    assert context.get_sequence_id(0) == "s1"


def test_attributes_that_handlers_add_survive_a_deep_copy(context):
    context.cache = {"first": [1]}
    twin = copy.deepcopy(context)
    assert twin.cache == {"first": [1]}
    assert twin.request_processor[0] is not context.request_processor[0]


def test_contexts_are_equal_by_content():
    made = [Context("m", "/d", None, 1, None, "0.12.0") for _ in range(2)]
    assert made[0] == made[1]
    made[1].model_name = "n"
    assert made[0] != made[1]


def test_importing_the_context_and_the_metrics_does_not_import_torch():
    code = (
        "import sys, ts, ts.context, ts.metrics.metric_cache_yaml_impl, ts.utils.util, "
        "ts.handler_utils.utils, ts.handler_utils.timer, ts.handler_utils.micro_batching, ts.model_loader\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0
