"""A context for tests of handlers, without a server."""

import uuid

import torch

from ts.metrics.metrics_store import MetricsStore
from ts.utils.util import get_yaml_config


class MockContext:
    """Set `explain` to have every request ask for an explanation."""

    def __init__(
        self,
        model_pt_file="model.pt",
        model_dir="ts/torch_handler/unit_tests/models/tmp",
        model_file="model.py",
        gpu_id="0",
        model_name="mnist",
        model_yaml_config_file=None,
    ):
        model = {"serializedFile": model_pt_file, "modelFile": model_file}
        self.manifest = {"model": {key: value for key, value in model.items() if value}}
        self.system_properties = {"model_dir": model_dir}
        if gpu_id is not None and torch.cuda.is_available():
            self.system_properties["gpu_id"] = gpu_id
        self.explain = False
        self.metrics = MetricsStore(str(uuid.uuid4()), model_name)
        self.model_yaml_config = {}
        if model_yaml_config_file is not None:
            self.model_yaml_config = get_yaml_config(f"{model_dir}/{model_yaml_config_file}")

    def get_request_header(self, idx, exp):
        return "True" if exp == "explain" and self.explain else None
