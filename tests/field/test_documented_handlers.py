"""Handlers typed as the documents have them: functions with `handler_factory`, classes of every kind."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import wave
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch
from support import RunningServer

BIN = Path(sys.executable).parent
# The network class in one file, which goes into the tar file of source files ...
MODEL = """
import torch

class MyNetworkBlock(torch.nn.Module):
    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.lin = torch.nn.Linear(in_dim, out_dim)
    def forward(self, x):
        x = self.lin(x)
        x = torch.relu(x)
        return x


class MyNetwork(torch.nn.Module):
    def __init__(self, in_dim, layer_dims):
        super().__init__()
        prev_dim = in_dim
        for i, dim in enumerate(layer_dims):
            setattr(self, f'layer{i}', MyNetworkBlock(prev_dim, dim))
            prev_dim = dim
        self.num_layers = len(layer_dims)
        self.output_proj = torch.nn.Linear(layer_dims[-1], 10)

    def forward(self, x):
        for i in range(self.num_layers):
            x = getattr(self, f'layer{i}')(x)
        return self.output_proj(x)
"""
# ... and the functions in another.
FUNCTIONS = """
import os
import torch
from base_handler import handler_factory
from model import MyNetwork
from helpers.scaling import SCALE

def init_function(in_dim, layer_dims):
    model = MyNetwork(in_dim, layer_dims)
    return model


def preprocess(data):
    return torch.tensor(data, dtype=torch.float32) * SCALE


def postprocess(data):
    prediction = data.squeeze(0).softmax(0)
    class_id = prediction.argmax().item()
    prepared = [name for name in ("installed", "unpacked") if os.path.exists(name)]
    return {"class": class_id, "prepared": prepared}


def unpack_dependencies():
    os.system("touch unpacked")


def install_packages():
    os.system("touch installed")


handler = handler_factory(init_function=init_function,
                          preprocess_function=preprocess,
                          postprocess_function=postprocess,
                          install_packages=install_packages,
                          unpack_dependencies=unpack_dependencies,
                          in_dim=4, layer_dims=[8, 6])
"""
CONFIG = """
minWorkers: 1
maxWorkers: 1
maxBatchDelay: 40  # ms
responseTimeout: 60  # s
batchSize: 4
system:
  extraFiles: "test.tar.gz"
  maxGPUMemory: 500  # MB
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has who has followed the document."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "model.py").write_text(MODEL)
    (folder / "handler_model.py").write_text(FUNCTIONS)
    (folder / "model-config.yaml").write_text(CONFIG)
    (folder / "helpers").mkdir()
    (folder / "helpers/scaling.py").write_text("SCALE = 2\n")
    with tarfile.open(folder / "test.tar.gz", "w:gz") as tar:
        for name in ("model.py", "helpers"):
            tar.add(folder / name, name)
    torch.manual_seed(1)
    torch.save(network(folder).state_dict(), folder / "checkpoint.pth")
    return folder


def network(folder: Path) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location("documented_model", folder / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: torch.nn.Module = module.MyNetwork(4, [8, 6])
    return made


def build(folder: Path, *arguments: str, script: str = "build.sh") -> subprocess.CompletedProcess[str]:
    command = ["marq", "build"] if script == "marq build" else [script]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


OPTIONS = (
    "--model_name", "documented", "--model_file", "handler_model.py", "--config_file", "model-config.yaml",
    "--checkpoint_file", "checkpoint.pth", "--version", "1.0",
)  # fmt: skip
EXTRA = ("--extra_files", "test.tar.gz")


@pytest.mark.slow
def test_the_walk_through_of_handler_factory_loads_and_answers(
    serve_models: Callable[..., RunningServer], sources: Path, tmp_path: Path
) -> None:
    (sources / "requirements.txt").write_text("")
    built = build(sources, *OPTIONS, *EXTRA, "--requirements_file", "requirements.txt")
    assert built.returncode == 0, built.stderr
    (tmp_path / "documented.mar").write_bytes((sources / "documented.mar").read_bytes())
    server = serve_models(tmp_path)
    server.wait_until_ready("documented")
    rows = [[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 0.0, 2.0]]
    expected = network(sources)
    expected.load_state_dict(torch.load(sources / "checkpoint.pth"))
    for row in rows:
        best = int(expected(torch.tensor(row) * 2).argmax())
        answer = httpx.post(f"{server.inference}/predictions/documented", json=row, timeout=60)
        assert answer.json() == {"class": best, "prepared": ["installed", "unpacked"]}


def test_a_directory_with_the_same_files_loads_and_answers(
    serve_models: Callable[..., RunningServer], sources: Path, tmp_path: Path
) -> None:
    """An unpacked archive, as people keep it while they work on a handler."""
    folder = tmp_path / "directory"
    shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("*.mar", "model.py", "helpers"))
    manifest = {
        "modelName": "directory", "modelVersion": "1.0", "handler": "handler_model.py",
        "serializedFile": "checkpoint.pth", "configFile": "model-config.yaml",
    }  # fmt: skip
    (folder / "MAR-INF").mkdir()
    (folder / "MAR-INF/MANIFEST.json").write_text(json.dumps({"runtime": "python", "model": manifest}))
    server = serve_models(tmp_path)
    server.wait_until_ready("directory")
    row = [1.0, 2.0, 3.0, 4.0]
    expected = network(sources)
    expected.load_state_dict(torch.load(sources / "checkpoint.pth"))
    answer = httpx.post(f"{server.inference}/predictions/directory", json=row, timeout=60)
    best = int(expected(torch.tensor(row) * 2).argmax())
    assert answer.json() == {"class": best, "prepared": ["installed", "unpacked"]}


@pytest.mark.slow
def test_marq_build_takes_the_same_options_and_writes_the_same_archive(sources: Path) -> None:
    built = [build(sources, *OPTIONS, *EXTRA, script=script) for script in ("build.sh", "marq build")]
    assert [each.returncode for each in built] == [0, 0], built[1].stderr
    assert built[0].stdout == built[1].stdout
    assert "documented.mar" in built[0].stdout


def test_extra_files_that_the_config_does_not_name_are_an_error_with_the_line_to_write(
    sources: Path, tmp_path: Path
) -> None:
    (tmp_path / "plain.yaml").write_text("minWorkers: 1\n")
    options = [str(tmp_path / "plain.yaml") if word == "model-config.yaml" else word for word in OPTIONS]
    built = build(sources, *options, *EXTRA)
    assert built.returncode == 1
    assert 'system: {extraFiles: "test.tar.gz"}' in " ".join(built.stderr.split())


SOUND = """
import wave
from io import BytesIO
from typing import Dict, List, Tuple
import numpy as np
from ts.torch_handler.base_handler import BaseHandler

import torch
from model import Model

class SoundModelHandler(BaseHandler):
    def __init__(self):
        super(SoundModelHandler, self).__init__()
        self.initialized = False

    def preproc_one_wav(self, req: Dict[str, bytearray]) -> Tuple[np.ndarray, int]:
        wav_byte = req.get("data")

        if wav_byte is None:
            wav_byte = req.get('body')

        with wave.open(BytesIO(wav_byte)) as file:
            return np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16), file.getframerate()

    def initialize(self, context):
        self.manifest = context.manifest

        properties = context.system_properties
        model_dir = properties.get("model_dir")
        self._context = context

        self.model = Model()
        self.model.load_state_dict(torch.load(model_dir + '/' + context.manifest["model"]["serializedFile"]))

        self.initialize = True
        self.device = torch.device(
            "cuda:" + str(properties.get("gpu_id"))
            if torch.cuda.is_available() and properties.get("gpu_id") is not None
            else "cpu"
        )

    def preprocess(self, requests: List[Dict[str, bytearray]]):
        batch = [self.preproc_one_wav(req) for req in requests]
        return torch.stack([torch.tensor(wav[:2] / 1000, dtype=torch.float32) for wav, rate in batch])

    def inference(self, x):
        return self.model.forward(x)

    def postprocess(self, preds):
        return [{"score": round(float(pred), 3)} for pred in preds]
"""
# The handler of the document, with its placeholders filled in: the slash of the path, and torch.cat
DOCUMENTED_SOUND = """
# custom handler file
from typing import Dict, List, Tuple
import numpy as np
import soundfile as sf
from io import BytesIO
from ts.torch_handler.base_handler import BaseHandler

import torch
from model import Model

class SoundModelHandler(BaseHandler):
    def __init__(self):
        super(SoundModelHandler, self).__init__()
        self.initialized = False

    def preproc_one_wav(self, req: Dict[str, bytearray]) -> Tuple[np.ndarray, int]:
        wav_byte = req.get("data")

        if wav_byte is None:
            wav_byte = req.get('body')

        # create a stream from the encoded image
        wav, sr = sf.read(BytesIO(wav_byte))
        return wav, sr

    def initialize(self, context):
        self.manifest = context.manifest

        properties = context.system_properties
        model_dir = properties.get("model_dir")
        self._context = context

        self.model = Model()
        self.model.load_state_dict(torch.load(model_dir + '/weights.pt'))

        self.initialize = True
        self.device = torch.device(
            "cuda:" + str(properties.get("gpu_id"))
            if torch.cuda.is_available() and properties.get("gpu_id") is not None
            else "cpu"
        )


    def preprocess(self, requests: List[Dict[str, bytearray]]):
        batch_crop = [self.preproc_one_wav(req) for req in requests]

        batch = torch.stack([torch.tensor(wav[:2], dtype=torch.float32) for wav, sr in batch_crop])

        return batch

    def inference(self, model_input: torch.Tensor):
        with torch.no_grad():
            generated_ids = self.model.generate(model_input.to(self.device))

        return generated_ids
"""
SOUND_MODEL = """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.lin(x)

    def generate(self, x):
        return self.lin(x).squeeze(1).round(decimals=3)
"""
SOUND_FILES = ("--model-file", "model.py", "--serialized-file", "weights.pt")
HAS_SOUNDFILE = importlib.util.find_spec("soundfile") is not None
PLAIN = """
import os

class PlainHandler:
    def __init__(self):
        self.found = None

    def initialize(self, context):
        self.found = sorted(os.listdir(context.model_dir)), context.manifest["model"]["modelName"]

    def handle(self, data, context):
        return [self.found] * len(data)
"""
FUNCTION = """
def setup_once(context):
    return context.system_properties["model_dir"]


def answer(data, context):
    if data is None:
        return setup_once(context)
    return ["from answer"] * len(data)
"""


@pytest.fixture(scope="module")
def server(
    serve_models: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:
    """Archives of torch-model-archiver: a class that overwrites its method, a plain one, a function."""
    folder, store = tmp_path_factory.mktemp("handlers"), tmp_path_factory.mktemp("store")
    (folder / "config.yaml").write_text("minWorkers: 1\n")
    for name, text in (
        ("sound.py", SOUND),
        ("documented_sound.py", DOCUMENTED_SOUND),
        ("model.py", SOUND_MODEL),
        ("plain.py", PLAIN),
        ("fn.py", FUNCTION),
    ):
        (folder / name).write_text(text)
    weights = {"lin.weight": torch.tensor([[1.0, 2.0]]), "lin.bias": torch.tensor([0.5])}
    torch.save(weights, folder / "weights.pt")
    for name, options in {
        "sound": ["--handler", "sound.py", *SOUND_FILES],
        "documented_sound": ["--handler", "documented_sound.py", *SOUND_FILES],
        "plain": ["--handler", "plain.py"],
        "fn": ["--handler", "fn.py:answer"],
    }.items():
        if name == "documented_sound" and not HAS_SOUNDFILE:
            continue
        command = [BIN / "torch-model-archiver", "--model-name", name, "--version", "1.0", *options]
        command += ["--config-file", "config.yaml", "--export-path", store]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return serve_models(store)


def test_a_handler_that_overwrites_its_method_initialize_answers(server: RunningServer) -> None:
    server.wait_until_ready("sound")
    for _ in range(2):
        answer = server.predict("sound", sound_file(1000, 2000))
        assert answer.json() == {"score": 5.5}, answer.text


@pytest.mark.skipif(not HAS_SOUNDFILE, reason="soundfile is not installed")
def test_the_sound_handler_of_the_document_reads_with_soundfile(server: RunningServer) -> None:
    server.wait_until_ready("documented_sound")
    sound = sound_file(1 << 14, 1 << 13)  # half and a quarter of the loudest
    assert server.predict("documented_sound", sound).json() == 1.5
    url = f"{server.inference}/predictions/documented_sound"
    assert httpx.post(url, files={"data": sound}, timeout=60).json() == 1.5


def sound_file(*samples: int) -> bytes:
    """A WAV file that begins with these samples of 16 bits."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"".join(sample.to_bytes(2, "little") for sample in samples) + bytes(16))
    return sound.getvalue()


def test_a_class_without_base_handler_finds_model_dir_and_manifest_on_the_context(
    server: RunningServer,
) -> None:
    server.wait_until_ready("plain")
    files, name = json.loads(server.predict("plain").text)
    assert {"MAR-INF", "plain.py"} <= set(files)
    assert name == "plain"


def test_a_function_is_named_behind_its_module(server: RunningServer) -> None:
    server.wait_until_ready("fn")
    assert server.predict("fn").text == "from answer"
