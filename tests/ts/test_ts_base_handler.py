import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from ts.torch_handler._device import use_tensor_cores
from ts.torch_handler._weights import WeightsError, fill
from ts.torch_handler.base_handler import BaseHandler

ONES = [[1.0, 1.0, 1.0]]
ANSWER = [[4.0, 13.0]]


def initialized(context, handler_class=BaseHandler):
    handler = handler_class()
    handler.initialize(context)
    return handler


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.bin"])
def test_a_state_dict_is_loaded_into_the_class_of_the_model_file(net, make_context, name):
    torch.save(net.state_dict(), name)
    context = make_context(serializedFile=name, modelFile="net.py")
    handler = initialized(context)
    assert handler.handle(ONES, context) == ANSWER
    assert handler.initialized
    assert not handler.model.training
    assert (handler.map_location, handler.get_device()) == ("cpu", torch.device("cpu"))
    assert handler.model_pt_path.endswith(name)


def test_replicas_share_the_pages_of_the_weights_file(net, make_context, model_dir):
    torch.save(net.state_dict(), "weights.pt")
    handler = initialized(make_context(serializedFile="weights.pt", modelFile="net.py"))
    assert str(model_dir / "weights.pt") in Path("/proc/self/maps").read_text()
    assert handler.model.linear.weight.requires_grad


def test_a_file_of_the_legacy_format_is_loaded_without_a_map(net, make_context):
    torch.save(net.state_dict(), "old.pt", _use_new_zipfile_serialization=False)
    context = make_context(serializedFile="old.pt", modelFile="net.py")
    assert initialized(context).handle(ONES, context) == ANSWER


def test_half_precision_weights_are_converted_to_the_precision_of_the_model(net, make_context):
    torch.save(net.half().state_dict(), "half.pt")
    context = make_context(serializedFile="half.pt", modelFile="net.py")
    handler = initialized(context)
    assert handler.model.linear.weight.dtype is torch.float32
    assert handler.handle(ONES, context) == ANSWER


def test_tied_parameters_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2)
            self.second = nn.Linear(2, 2)
            self.second.weight = self.first.weight

    model = fill(Tied(), Tied().state_dict())
    assert model.first.weight is model.second.weight


def test_taking_tensors_over_gives_the_model_that_copying_gives():
    torch.manual_seed(0)
    trained = nn.LSTM(3, 4, num_layers=2, batch_first=True).eval()
    model = fill(nn.LSTM(3, 4, num_layers=2, batch_first=True).eval(), trained.state_dict())
    data = torch.rand(1, 5, 3)
    assert torch.equal(model(data)[0], trained(data)[0])
    assert model.weight_ih_l0.data_ptr() == trained.weight_ih_l0.data_ptr()


def test_a_class_that_loads_its_own_way_is_left_to_do_so():
    class Own(nn.Linear):
        def load_state_dict(self, state_dict):
            self.loaded = sorted(state_dict)

    assert fill(Own(1, 1), Own(1, 1).state_dict()).loaded == ["bias", "weight"]


def test_missing_weights_are_an_error(net, make_context):
    torch.save({"linear.weight": torch.zeros(2, 3)}, "weights.pt")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "linear.bias"'):
        initialized(make_context(serializedFile="weights.pt", modelFile="net.py"))


def test_a_pickled_model_is_refused_with_what_it_holds_and_what_to_do(net, make_context):
    torch.save(net, "whole.pt")
    with pytest.raises(WeightsError, match=r"net\.Net.*Save model\.state_dict\(\) instead"):
        initialized(make_context(serializedFile="whole.pt", modelFile="net.py"))


def test_a_file_that_is_no_checkpoint_is_named(net, make_context, model_dir):
    (model_dir / "junk.pt").write_text("junk")
    with pytest.raises(WeightsError, match=r"junk\.pt is not a file that torch\.save wrote"):
        initialized(make_context(serializedFile="junk.pt", modelFile="net.py"))


def test_a_model_file_without_weights_is_enough(net, make_context):
    context = make_context(modelFile="net.py")
    assert len(initialized(context).handle(ONES, context)[0]) == 2


def test_a_missing_model_file_is_an_error(net, make_context):
    with pytest.raises(RuntimeError, match=r"Missing the model\.py file"):
        initialized(make_context(modelFile="other.py"))


def test_a_model_file_defines_exactly_one_class(make_context, model_dir):
    (model_dir / "two.py").write_text("class A: pass\nclass B: pass\n")
    with pytest.raises(ValueError, match="Expected only one class as model definition"):
        initialized(make_context(modelFile="two.py"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_needs_no_model_file(net, make_context):
    torch.jit.save(torch.jit.script(net), "script.pt")
    context = make_context(serializedFile="script.pt")
    assert initialized(context).handle(ONES, context) == ANSWER


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_state_dict_that_poses_as_torchscript_is_explained(net, make_context):
    torch.save(net.state_dict(), "weights.pt")
    with pytest.raises(RuntimeError, match=r"weights\.pt is not a TorchScript archive.*needs a model file"):
        initialized(make_context(serializedFile="weights.pt"))


def test_an_exported_program_is_loaded(net, make_context):
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(net, (torch.ones(2, 3),), dynamic_shapes=({0: batch},))
    torch.export.save(program, "program.pt2")
    context = make_context(serializedFile="program.pt2")
    assert initialized(context).handle(ONES * 3, context) == ANSWER * 3


@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "lib.so", "model.xyz"])
def test_other_files_cannot_be_loaded_on_their_own(make_context, model_dir, name):
    (model_dir / name).write_bytes(b"")
    with pytest.raises(RuntimeError, match="No model weights could be loaded"):
        initialized(make_context(serializedFile=name))


def test_an_archive_without_any_model_is_an_error(make_context):
    with pytest.raises(RuntimeError, match="the archive has no serialized file"):
        initialized(make_context())


def test_onnx_without_its_runtime_names_the_package(make_context, model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (model_dir / "model.onnx").write_bytes(b"")
    with pytest.raises(ImportError, match="needs the package onnxruntime"):
        initialized(make_context(serializedFile="model.onnx"))


def test_labels_are_read_from_the_model_directory(net, make_context, model_dir):
    (model_dir / "index_to_name.json").write_text('{"0": "cat"}')
    assert initialized(make_context(modelFile="net.py")).mapping == {"0": "cat"}


@pytest.mark.parametrize(
    ("pt2", "log"),
    [
        ("eager", "Compiled model with backend eager"),
        ({"compile": {"enable": True, "backend": "eager"}}, "Compiled model with backend eager"),
        ({"backend": "eager", "mode": "default"}, "Compiled model with backend eager, mode default"),
        ({"compile": {"enable": True, "backend": "magic"}}, "magic is not a supported backend"),
        ({"compile": {"enable": True, "backend": "eager", "zzz": 1}}, "has failed; going on without"),
        ({"compile": {"enable": True, "backend": "openvino"}}, "has failed; going on without"),
        ({"compile": {"enable": False, "backend": "eager"}}, ""),
        ({"export": {"aot_compile": True}}, ""),
    ],
)
def test_the_model_is_compiled_as_its_configuration_asks(net, make_context, caplog, pt2, log):
    caplog.set_level(logging.INFO)
    context = make_context(modelFile="net.py", config={"pt2": pt2})
    handler = initialized(context)
    assert log in caplog.text
    assert ("Compiled model" in caplog.text) == ("Compiled model" in log)
    assert context.model_yaml_config == {"pt2": pt2}
    assert len(handler.handle(ONES, context)[0]) == 2


@pytest.mark.parametrize(
    ("pt2", "message"), [(5, "pt2 should be str or dict"), ({"compile": {}}, "must have the key `enable`")]
)
def test_a_wrong_compile_configuration_is_an_error(net, make_context, pt2, message):
    with pytest.raises(ValueError, match=message):
        initialized(make_context(modelFile="net.py", config={"pt2": pt2}))


def test_each_batch_emits_its_handler_time(net, make_context, caplog):
    caplog.set_level(logging.INFO)
    context = make_context(modelFile="net.py")
    initialized(context).handle(ONES, context)
    assert "[METRICS]HandlerTime.Milliseconds:" in caplog.text


def test_describe_answers_once_and_skips_the_model(net, make_context):
    class Described(BaseHandler):
        def describe_handle(self):
            return {"labels": 2}

    context = make_context(headers={"describe": "True"}, modelFile="net.py")
    assert initialized(context, Described).handle([{}], context) == [{"labels": 2}]
    assert initialized(context).handle([{}], context) == [None]


def test_explain_gives_the_insights_of_the_first_request(net, make_context):
    class Explained(BaseHandler):
        def preprocess(self, data):
            return "prepared"

        def get_insights(self, prepared, raw, target):
            return [prepared, raw, target]

    context = make_context(headers={"explain": "True"}, modelFile="net.py")
    handler = initialized(context, Explained)
    assert handler.handle([{"body": b"x", "target": 3}], context) == ["prepared", b"x", 3]
    assert handler.handle([{"data": b"y"}], context) == ["prepared", b"y", 0]
    assert handler.explain


def test_explain_is_only_the_exact_word(net, make_context):
    context = make_context(headers={"explain": "true"}, modelFile="net.py")
    assert len(initialized(context).handle(ONES, context)[0]) == 2


def test_a_subclass_need_not_call_the_constructor(net, make_context):
    class Bare(BaseHandler):
        def __init__(self):
            self.ready = False

    context = make_context(modelFile="net.py")
    assert len(initialized(context, Bare).handle(ONES, context)[0]) == 2


def test_the_profiler_answers_and_leaves_a_trace(net, make_context, monkeypatch, tmp_path):
    traces = []

    class Profiled(BaseHandler):
        def __init__(self):
            super().__init__()
            activities = [torch.profiler.ProfilerActivity.CPU]
            self.profiler_args = {"activities": activities, "on_trace_ready": traces.append}

    monkeypatch.setenv("ENABLE_TORCH_PROFILER", "1")
    context = make_context(modelFile="net.py")
    assert len(initialized(context, Profiled).handle(ONES, context)[0]) == 2
    assert "inference" in {event.key for event in traces[0].key_averages()}


def test_the_base_handler_imports_no_optional_package():
    code = textwrap.dedent(
        """
        import sys
        import ts.torch_handler.base_handler
        sys.exit(bool({"captum", "onnxruntime", "torchvision", "matplotlib"} & set(sys.modules)))
        """
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "highest"), ((8, 0), "high")])
def test_devices_with_tensor_cores_use_them(monkeypatch, capability, precision):
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    torch.set_float32_matmul_precision("highest")
    try:
        use_tensor_cores()
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
