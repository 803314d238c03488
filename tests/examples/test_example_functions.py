import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

import marq
from archive.packing.writer import ArchiveSpec, write

FOLDER = Path(__file__).parents[2] / "examples/functions"
BIN = Path(sys.executable).parent
NET = """
import torch

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(1, 1)
"""


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("functions", "resnet", "handler", "train")


@pytest.fixture(scope="module")
def network(example):
    return example.train.train()


@pytest.fixture(scope="module")
def images(example):
    """New drawings, with what they show."""
    rng = random.Random(1)
    return [(name, example.train.draw(name, rng)) for name in example.handler.NAMES * 4]


@pytest.fixture(scope="module")
def model(network, host, tmp_path_factory):
    folder = tmp_path_factory.mktemp("functions")
    torch.save(network.state_dict(), folder / "shapes.pth")
    with zipfile.ZipFile(folder / "corners.zip", "w") as file:
        file.write(FOLDER / "corners.json", "corners.json")
    with tarfile.open(folder / "extra.tar.gz", "w:gz") as tar:
        tar.add(folder / "corners.zip", "corners.zip")
        for name in ("resnet.py", "project"):
            tar.add(FOLDER / name, name)
    built = build(
        "--model_name", "shapes", "--model_file", FOLDER / "handler.py", "--version", "1.0",
        "--config_file", FOLDER / "model-config.yaml", "--checkpoint_file", folder / "shapes.pth",
        "--extra_files", folder / "extra.tar.gz", "--export_path", host.store,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return host.register(host.store / "shapes.mar")


def build(*arguments):
    """Runs build.sh with `marq` on the path."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = [str(BIN / "build.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_shapes_are_told_apart(host, model, images):
    answers = [host.predict(model, image).json() for _, image in images]
    right = sum(answer["shape"] == name for answer, (name, _) in zip(answers, images, strict=True))
    assert right >= 0.9 * len(images)


@pytest.fixture
def prepared(example, tmp_path, monkeypatch):
    """A working directory like that of a replica: with what the functions unpack and build."""
    shutil.copytree(FOLDER / "project", tmp_path / "project")
    with zipfile.ZipFile(tmp_path / "corners.zip", "w") as file:
        file.write(FOLDER / "corners.json", "corners.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    example.handler.unpack_dependencies()
    example.handler.install_packages()


@pytest.mark.usefixtures("prepared")
def test_answers_of_a_batch_are_the_network_s_own(example, network, host, model, images):
    with torch.inference_mode():
        pixels = torch.stack([example.handler.preprocess(image) for _, image in images])
        own = [example.handler.postprocess(scores) for scores in network(pixels)]
    with marq.Client(host.server.redis_url) as client:
        jobs = client.submit_many(model, [image for _, image in images])
        answers = [job.result(timeout=60).json() for job in jobs]
    assert [answer["shape"] for answer in answers] == [answer["shape"] for answer in own]
    assert [answer["corners"] for answer in answers] == [answer["corners"] for answer in own]
    for answer, expected in zip(answers, own, strict=True):
        assert answer["probability"] == pytest.approx(expected["probability"], abs=1e-3)


def test_what_is_no_image_fails_alone(host, model, images):
    name, good = images[0]
    with marq.Client(host.server.redis_url) as client:
        first, bad = client.submit_many(model, [good, b"no image"])
        assert first.result(timeout=60).json()["shape"] == name
        with pytest.raises(marq.client.PredictionFailed, match="status 400"):
            bad.result(timeout=60)


def test_the_build_script_explains_itself():
    built = build()
    assert built.returncode == 2
    assert "Usage: marq build" in built.stderr


def test_an_archive_whose_handler_is_the_default_base_handler_loads(host, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    spec = ArchiveSpec(
        "plain", "base_handler", "1.0", model_file=str(tmp_path / "net.py"), export_path=host.store
    )
    assert host.register(write(spec)) == "plain"
