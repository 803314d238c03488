"""The built-in image handlers with real torchvision models, served.

`make test-slow` installs torchvision without its dependencies into a directory; MARQ_TORCHVISION is its path.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from archive.packing.writer import ArchiveSpec, write

TORCHVISION = os.environ.get("MARQ_TORCHVISION", "")
SHARED = Path(__file__).parents[1] / "shared"
KINDS = ("image_classifier", "image_segmenter", "object_detector")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TORCHVISION, reason="MARQ_TORCHVISION names no torchvision"),
]


@pytest.fixture(scope="module")
def python_path():
    return os.pathsep.join([TORCHVISION, str(SHARED / "torchvision_site")])


@pytest.fixture(scope="module")
def made(python_path, tmp_path_factory):
    """A directory with an image, and a folder with model and answer for each kind."""
    directory = tmp_path_factory.mktemp("vision")
    command = [sys.executable, "-P", str(SHARED / "vision_models.py"), str(directory)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": python_path}, check=True)
    return directory


@pytest.fixture(scope="module")
def server(made, python_path, start_server, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    labels = made / "index_to_name.json"
    labels.write_text(json.dumps({str(index): f"label {index}" for index in range(10)}))
    for kind in KINDS:
        folder = made / kind
        write(
            ArchiveSpec(
                kind, kind, "1.0", str(folder / "weights.pth"), str(folder / "model.py"), export_path=store,
                extra_files=(str(labels),),
            )
        )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path)
        started = start_server(store, default_workers_per_model=1)
    for kind in KINDS:
        started.wait_until_ready(kind)
    return started


@pytest.fixture
def ask(server, made):
    """(what the server answers to the image, what the model itself says)"""

    def ask(kind):
        answer = server.predict(kind, (made / "image.png").read_bytes())
        assert answer.status_code == 200, answer.text
        return answer.json(), json.loads((made / kind / "answer.json").read_text())

    return ask


def test_a_classifier_names_the_five_best_classes(ask):
    answer, own = ask("image_classifier")
    best = sorted(enumerate(own), key=lambda pair: -pair[1])[:5]
    assert list(answer) == [f"label {index}" for index, _ in best]
    assert list(answer.values()) == pytest.approx([chance for _, chance in best], rel=1e-3)


def test_an_image_may_be_sent_as_base64_in_json(server, made, ask):
    text = json.dumps(base64.b64encode((made / "image.png").read_bytes()).decode())
    sent = server.predict("image_classifier", text.encode(), headers={"Content-Type": "application/json"})
    assert sent.json() == pytest.approx(ask("image_classifier")[0], rel=1e-3)


def test_a_segmenter_gives_class_and_probability_of_each_pixel(ask):
    answer, own = ask("image_segmenter")
    chances, classes = torch.tensor(own).max(dim=0)
    given = torch.tensor(answer)
    assert given.shape == (224, 224, 2)
    assert (given[..., 0] == classes).float().mean() > 0.999
    assert torch.allclose(given[..., 1], chances, atol=1e-3)


def test_a_detector_gives_the_boxes_above_its_threshold(ask):
    answer, own = ask("object_detector")
    found = zip(own["labels"], own["boxes"], own["scores"], strict=True)
    above = [{f"label {label}": box, "score": score} for label, box, score in found if score > 0.5]
    assert 0 < len(above) < len(own["scores"])
    assert len(answer) == len(above)
    for given, wanted in zip(sorted(answer, key=str), sorted(above, key=str), strict=True):
        assert given["score"] == pytest.approx(wanted.pop("score"), abs=1e-3)
        assert given == {"score": given["score"]} | {k: pytest.approx(v, abs=0.5) for k, v in wanted.items()}
