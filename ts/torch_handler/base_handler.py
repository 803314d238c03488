"""`BaseHandler`: loads a model and answers batches in three steps that subclasses replace."""

import abc
import importlib
import logging
import os
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function, tensorboard_trace_handler

from ts.handler_utils.timer import timed
from ts.utils.util import list_classes_from_module, load_label_mapping

from . import _compile, _device, _weights

logger = logging.getLogger(__name__)

PROFILER_AVAILABLE = True
PT2_AVAILABLE = True
PT230_AVAILABLE = True
IPEX_AVAILABLE = _device.IPEX_AVAILABLE
XLA_AVAILABLE = _device.XLA_AVAILABLE
ONNX_AVAILABLE = _device.available("onnxruntime")
setup_ort_session = _weights.load_onnx

_device.use_tensor_cores()


class BaseHandler(abc.ABC):  # noqa: B024 - subclasses rely on its metaclass
    """`initialize` once, then `handle` per batch: preprocess, inference, postprocess."""

    def __init__(self):
        self.model = None
        self.mapping = None
        self.device = None
        self.initialized = False
        self.context = None
        self.model_pt_path = None
        self.manifest = None
        self.map_location = None
        self.explain = False
        self.target = 0
        self.profiler_args = {}

    def initialize(self, context):
        """Load the model that the archive describes onto the replica's device."""
        if hasattr(context, "model_yaml_config"):
            self.model_yaml_config = context.model_yaml_config
        properties = context.system_properties
        self.map_location, self.device = _device.choose(properties.get("gpu_id"))
        self.manifest = context.manifest
        model_dir = properties.get("model_dir")
        self.model = self._load_model(model_dir)
        self._optimize()
        self.mapping = load_label_mapping(os.path.join(model_dir, "index_to_name.json"))  # noqa: PTH118
        self.initialized = True

    def _load_model(self, model_dir):
        description = self.manifest["model"]
        serialized = description.get("serializedFile")
        self.model_pt_path = str(Path(model_dir) / serialized) if serialized else None
        model_file = description.get("modelFile")
        if model_file:
            model = self._load_pickled_model(model_dir, model_file, self.model_pt_path)
            model.to(self.device)
            model.eval()
            return model
        if not self.model_pt_path:
            raise RuntimeError("No model weights could be loaded: the archive has no serialized file")
        return self._load_serialized(self.model_pt_path)

    def _load_serialized(self, path):
        suffix = Path(path).suffix
        if suffix == ".pt":
            return self._load_torchscript_model(path)
        if suffix == ".pt2":
            return _weights.load_exported(path, self.device)
        if suffix == ".onnx":
            return setup_ort_session(path, self.map_location)
        if suffix == ".so" and self._use_torch_export_aot_compile():
            return self._load_torch_export_aot_compile(path)
        raise RuntimeError(f"No model weights could be loaded from {Path(path).name}: {_hint(suffix)}")

    def _optimize(self):
        options = _compile.compile_options(getattr(self, "model_yaml_config", None))
        if options is not None:
            self.model = _compile.compiled(self.model, options)
        elif IPEX_AVAILABLE:
            self.model = _device.optimize_for_ipex(self.model)

    def _load_pickled_model(self, model_dir, model_file, model_pt_path):
        """An instance of the one class in `model_file`, with the weights of `model_pt_path` if given."""
        if not (Path(model_dir) / model_file).is_file():
            raise RuntimeError("Missing the model.py file")
        module = importlib.import_module(model_file.split(".")[0])
        classes = list_classes_from_module(module)
        if len(classes) != 1:
            raise ValueError(f"Expected only one class as model definition. {classes}")
        model = classes[0]()
        if model_pt_path:
            _weights.fill(model, _weights.read_saved(model_pt_path, self.device))
        return model

    def _load_torchscript_model(self, model_pt_path):
        return _weights.load_torchscript(model_pt_path, self.device)

    def _load_torch_export_aot_compile(self, model_so_path):
        return _weights.load_aot_library(model_so_path, self.map_location, self.device)

    def _use_torch_export_aot_compile(self):
        config = getattr(self, "model_yaml_config", None) or {}
        pt2 = config.get("pt2")
        export = pt2.get("export") if isinstance(pt2, dict) else None
        return bool(export and export.get("aot_compile"))

    @timed
    def preprocess(self, data):
        return torch.as_tensor(data, device=self.device)

    @timed
    def inference(self, data, *args, **kwargs):
        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    @timed
    def postprocess(self, data):
        return data.tolist()

    def handle(self, data, context):
        """Answer a batch: one element per request."""
        start = time.perf_counter()
        self.context = context
        if os.environ.get("ENABLE_TORCH_PROFILER"):
            output, _ = self._infer_with_profiler(data=data)
        elif self._is_describe():
            output = [self.describe_handle()]
        else:
            output = self._answer(data)
        elapsed_ms = round((time.perf_counter() - start) * 1000, 2)
        context.metrics.add_time("HandlerTime", elapsed_ms, None, "ms")
        return output

    def _answer(self, data):
        prepared = self.preprocess(data)
        if self._is_explain():
            return self.explain_handle(prepared, data)
        return self.postprocess(self.inference(prepared))

    def _infer_with_profiler(self, data):
        """The answer and the profile; the trace goes to a folder that TensorBoard reads."""
        if not self.profiler_args:
            self.profiler_args = {
                "activities": [ProfilerActivity.CPU, ProfilerActivity.CUDA],
                "record_shapes": True,
            }
        if "on_trace_ready" not in self.profiler_args:
            folder = f"/tmp/pytorch_profiler/{self.manifest['model']['modelName']}"  # noqa: S108
            logger.info("Saving chrome trace to : %s", folder)
            self.profiler_args["on_trace_ready"] = tensorboard_trace_handler(folder)
        with profile(**self.profiler_args) as prof:
            output = self._answer_in_steps(data)
        logger.info("%s", prof.key_averages().table(sort_by="cpu_time_total", row_limit=10))
        return output, prof

    def _answer_in_steps(self, data):
        with record_function("preprocess"):
            prepared = self.preprocess(data)
        if self._is_explain():
            with record_function("explain"):
                return self.explain_handle(prepared, data)
        with record_function("inference"):
            output = self.inference(prepared)
        with record_function("postprocess"):
            return self.postprocess(output)

    def explain_handle(self, data_preprocess, raw_data):
        """The insights of a subclass (`get_insights`) into the first request."""
        first = raw_data[0]
        if not isinstance(first, dict):
            return self.get_insights(data_preprocess, None, 0)
        inputs = first.get("data") or first.get("body")
        return self.get_insights(data_preprocess, inputs, first.get("target") or 0)

    def describe_handle(self):
        """What `GET /models/{name}?customized=true` shows; a JSON object, or None for nothing."""
        return None  # noqa: RET501

    def _is_explain(self):
        if self.context and self.context.get_request_header(0, "explain") == "True":
            self.explain = True
            return True
        return False

    def _is_describe(self):
        return bool(self.context) and self.context.get_request_header(0, "describe") == "True"

    def get_device(self):
        return self.device


def _hint(suffix):
    if suffix == ".so":
        return "a .so needs `pt2: {export: {aot_compile: true}}` in the model's YAML"
    if suffix in (".pth", ".bin", ".ckpt"):
        return "a state dict needs a model file that defines its class"
    return "known are .pt (TorchScript), .pt2, .onnx and .so, and state dicts beside a model file"
