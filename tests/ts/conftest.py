"""A model directory as an extracted archive leaves it, and contexts for it."""

import sys
from pathlib import Path

import pytest

from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)
"""


@pytest.fixture
def model_dir(tmp_path, monkeypatch):
    """The working directory and first on the path; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def net(model_dir):
    """A small model: its class in `net.py`, and an instance with known weights."""
    (model_dir / "net.py").write_text(NET)
    import torch
    from net import Net

    made = Net()
    with torch.no_grad():
        made.linear.weight.copy_(torch.arange(6.0).reshape(2, 3))
        made.linear.bias.fill_(1.0)
    return made.eval()


@pytest.fixture
def make_context(model_dir):
    def make(rows=1, headers=None, config=None, gpu_id=None, **model):
        manifest = {"model": {"modelName": "mnist", "modelVersion": "1.0", **model}}
        context = Context("mnist", str(model_dir), manifest, rows, gpu_id, "0.12.0")
        context.model_yaml_config = config or {}
        context.metrics = MetricsCacheYamlImpl()
        context.metrics.model_name = "mnist"
        context.request_processor = [RequestProcessor(headers or {}) for _ in range(rows)]
        context.request_ids = {index: f"id-{index}" for index in range(rows)}
        context.metrics.set_request_ids(context.request_ids)
        return context

    return make


class Parts:
    """A client that is gone after some parts, or never."""

    def __init__(self, gone_after=None):
        self.sent, self.gone_after = [], gone_after

    def stream(self, values, request_ids, status):
        self.check_wanted()
        self.sent += values

    def check_wanted(self):
        if self.gone_after is not None:
            self.gone_after -= 1
            if self.gone_after < 0:
                raise ConnectionError("the client is gone")


@pytest.fixture
def make_parts():
    return Parts


@pytest.fixture
def engines(monkeypatch):
    """Stand-ins for vLLM and TensorRT-LLM can be imported; they are forgotten afterwards."""
    folder = Path(__file__).parents[1] / "shared/llm_engines"
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("vllm", "tensorrt_llm", "words"):
            del sys.modules[name]
