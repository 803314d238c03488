"""Archives that torch-model-archiver 0.12.0 made, served as they are. Its path is in MARQ_REAL_ARCHIVER."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest
import torch
from support import RunningServer

REAL = os.environ.get("MARQ_REAL_ARCHIVER", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not REAL, reason="MARQ_REAL_ARCHIVER is not set to the path of a torch-model-archiver 0.12.0"
    ),
]
FORMATS = ("default", "zip-store", "tgz", "no-archive")
MODEL = """
import torch


class Doubler(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x * self.factor
"""
HANDLER = """
import torch
from ts.torch_handler.base_handler import BaseHandler


class Doubling(BaseHandler):
    def preprocess(self, data):
        with open("extra.txt") as extra:  # beside the handler, wherever that is
            self.unit = extra.read().strip()
        return torch.tensor([row["body"]["x"] for row in data], dtype=torch.float32)

    def postprocess(self, output):
        made = self.context.manifest["createdOn"]
        return [{"y": value, "unit": self.unit, "of": made} for value in output.tolist()]
"""


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory) -> RunningServer:
    sources, store = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("store")
    (sources / "doubler.py").write_text(MODEL)
    (sources / "doubling.py").write_text(HANDLER)
    (sources / "extra.txt").write_text("m")
    (sources / "model-config.yaml").write_text(
        "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\nmaxBatchDelay: 20\n"
    )
    torch.save({"factor": torch.tensor([2.0])}, sources / "weights.pt")
    for name in FORMATS:
        _archive(sources, store, name)
    running: RunningServer = start_server(store)
    for name in FORMATS:
        running.wait_until_ready(name.replace("-", "_"))
    return running


def _archive(sources: Path, store: Path, archive_format: str) -> None:
    subprocess.run(
        [
            REAL, "--model-name", archive_format.replace("-", "_"), "--version", "2.0",
            "--model-file", sources / "doubler.py", "--serialized-file", sources / "weights.pt",
            "--handler", sources / "doubling.py", "--extra-files", sources / "extra.txt",
            "--config-file", sources / "model-config.yaml",
            "--export-path", store, "--archive-format", archive_format,
        ],
        check=True, env={**os.environ, "TMPDIR": str(store.parent)},
    )  # fmt: skip


@pytest.mark.parametrize("archive_format", FORMATS)
def test_it_is_served(server: RunningServer, archive_format: str) -> None:
    model = archive_format.replace("-", "_")
    headers = {"content-type": "application/json"}
    answer = server.predict(model, b'{"x": 21}', headers=headers).json()
    assert (answer["y"], answer["unit"]) == (42.0, "m")
    assert "/" in answer["of"]  # the date, as the real archiver writes it
    [described] = httpx.get(f"{server.management}/models/{model}").json()
    assert (described["modelVersion"], described["batchSize"], described["maxBatchDelay"]) == ("2.0", 4, 20)
