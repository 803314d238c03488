"""Handlers and helpers that need packages which may be absent."""

import importlib
import importlib.util
import io
import json

import pytest
import torch

from ts.arg_parser import ArgParser
from ts.handler_utils.distributed.deepspeed import create_checkpoints_json
from ts.handler_utils.hf_batch_streamer import TextIteratorStreamerBatch
from ts.model_loader import ModelLoaderFactory
from ts.model_service.model_service import SingleNodeService
from ts.torch_handler._require import require
from ts.torch_handler.densenet_handler import DenseNetHandler
from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext
from ts.torch_handler.unit_tests.test_utils.model_dir import copy_files


@pytest.mark.parametrize(
    ("package", "module", "name", "missing"),
    [
        ("vllm", "ts.torch_handler.vllm_handler", "VLLMHandler", "pip install vllm"),
        ("tensorrt_llm", "ts.torch_handler.trt_llm_handler", "TRTLLMHandler", "pip install tensorrt-llm"),
    ],
)
def test_a_handler_is_importable_and_names_its_package_when_used(
    make_context, package, module, name, missing
):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    handler = getattr(importlib.import_module(module), name)()
    with pytest.raises(ImportError, match=missing):
        handler.initialize(make_context(config={"handler": {"engine_dir": "e"}}))


@pytest.mark.parametrize(
    ("module", "function", "arguments", "missing"),
    [
        ("ts.handler_utils.preprocess.dali", "get_dali_pipeline", 1, "nvidia-dali"),
        ("ts.handler_utils.distributed.deepspeed", "get_ds_engine", 2, "pip install deepspeed"),
        ("ts.handler_utils.distributed.pt_pippy", "get_pipeline_driver", 3, "torchpippy"),
        ("ts.utils.hf_utils", "download_model", 1, "pip install huggingface_hub"),
    ],
)
def test_a_helper_is_importable_and_names_its_package_when_used(module, function, arguments, missing):
    if any(map(_installed, ("nvidia.dali", "deepspeed", "huggingface_hub"))):
        pytest.skip("one of the packages is installed")
    helper = getattr(importlib.import_module(module), function)
    with pytest.raises(ImportError, match=missing):
        helper(*[None] * arguments)


def _installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    "module", ["dali_handler", "dali_image_classifier", "distributed.base_deepspeed_handler"]
)
def test_base_classes_are_importable_without_their_packages(module):
    importlib.import_module(f"ts.torch_handler.{module}")


def test_an_error_inside_a_package_is_not_taken_for_its_absence(model_dir):
    (model_dir / "broken_package.py").write_text("import no_such_dependency")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("broken_package", "broken-package")


def test_the_tensor_handler_takes_and_gives_saved_tensors(net, make_context):
    file = io.BytesIO()
    torch.save(torch.ones(1, 3), file)
    context = make_context(modelFile="net.py")
    handler = DenseNetHandler()
    handler.initialize(context)
    (answer,) = handler.handle([{"body": file.getvalue()}], context)
    assert torch.load(io.BytesIO(answer), weights_only=True).shape == (1, 2)


class Letters:
    """A tokenizer whose tokens are the letters themselves."""

    def decode(self, tokens, **_):
        return "".join(map(chr, tokens))


def test_a_streamer_gives_whole_words_of_every_row():
    streamer = TextIteratorStreamerBatch(Letters(), batch_size=2, skip_prompt=True)
    streamer.put(torch.tensor([[1, 2], [3, 4]]))
    for first, second in zip("Hi you", "A b\nc!", strict=True):
        streamer.put(torch.tensor([ord(first), ord(second)]))
    streamer.end()
    steps = list(streamer)
    assert ["".join(texts) for texts in zip(*steps, strict=True)] == ["Hi you", "A b\nc!"]
    assert steps[0] == ["", ""]
    assert steps[-1] == ["you", "c!"]


def test_checkpoints_are_listed_for_deepspeed(tmp_path):
    for name in ("a.bin", "b.pt", "c.txt"):
        (tmp_path / name).write_text("")
    create_checkpoints_json(tmp_path, tmp_path / "list.json")
    listed = json.loads((tmp_path / "list.json").read_text())
    assert listed["checkpoints"] == [str(tmp_path / "a.bin"), str(tmp_path / "b.pt")]


def test_a_mock_context_serves_a_handler(net, model_dir, tmp_path):
    copy_files(model_dir, tmp_path / "copy", {"net.py": "net.py"})
    (tmp_path / "copy" / "model-config.yaml").write_text("handler: {a: 1}")
    context = MockContext(None, str(tmp_path / "copy"), "net.py", None, "mnist", "model-config.yaml")
    assert context.model_yaml_config == {"handler": {"a": 1}}
    context.explain = True
    assert context.get_request_header(0, "explain") == "True"
    assert context.get_request_header(0, "describe") is None


def test_the_loader_of_the_older_interface_gives_a_ready_service(model_dir):
    (model_dir / "MAR-INF").mkdir()
    manifest = {"model": {"modelName": "m", "handler": "own.py", "configFile": "c.yaml"}}
    (model_dir / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (model_dir / "c.yaml").write_text("a: 1")
    (model_dir / "own.py").write_text("def handle(data, context): context.ready = True")
    service = ModelLoaderFactory.get_model_loader().load("renamed", str(model_dir), batch_size=2)
    assert service.context.ready
    assert service.context.model_name == "renamed"
    assert service.context.manifest == manifest
    assert service.context.model_yaml_config == {"a": 1}
    assert service.context.metrics.model_name == "renamed"


def test_the_oldest_handlers_answer_in_three_steps():
    class Doubles(SingleNodeService):
        def _inference(self, data):
            return [value * 2 for value in data]

    service = Doubles("m", "/d", None)
    assert service.handle([{"a": 1, "b": 2}, {"a": 3}], None) == [[2, 4], [6]]


def test_the_command_line_of_the_server_is_parsed():
    arguments = ArgParser.extract_args(["--start", "--models", "a=b.mar", "c.mar", "--ncs"])
    assert (arguments.start, arguments.models, arguments.no_config_snapshots) == (
        True,
        ["a=b.mar", "c.mar"],
        True,
    )
    worker = ArgParser.model_service_worker_args().parse_args(["--sock-type", "unix", "--async"])
    assert worker.async_comm
