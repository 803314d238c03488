import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torchvision", exc_type=Exception)  # a build for another torch fails in its own way

from ts.torch_handler.image_classifier import ImageClassifier
from ts.torch_handler.image_segmenter import ImageSegmenter
from ts.torch_handler.object_detector import ObjectDetector

MODELS = """
import torch

class Scores(torch.nn.Module):
    def forward(self, x):
        return torch.tensor([[0.0, 3.0, 1.0, 2.0]]).repeat(len(x), 1)
"""
SEGMENTS = """
import torch

class Segments(torch.nn.Module):
    def forward(self, x):
        scores = torch.zeros(len(x), 3, 2, 2)
        scores[:, 2] = 50.0
        return {"out": scores}
"""
BOXES = """
import torch

class Boxes(torch.nn.Module):
    def forward(self, images):
        boxes = torch.arange(8.0).reshape(2, 4)
        found = {"boxes": boxes, "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.75, 0.25])}
        return [found for _ in images]
"""


@pytest.fixture
def answers(model_dir, make_context):
    """What a handler class with a model says to two white images."""

    def get(handler_class, code, mapping='{"1": "cat"}'):
        (model_dir / "own_model.py").write_text(code)
        (model_dir / "index_to_name.json").write_text(mapping)
        file = io.BytesIO()
        Image.fromarray(np.full((4, 4, 3), 255, dtype=np.uint8)).save(file, "PNG")
        context = make_context(rows=2, modelFile="own_model.py")
        handler = handler_class()
        handler.initialize(context)
        return handler.handle([{"data": file.getvalue()}] * 2, context)

    return get


def test_a_classifier_gives_the_best_classes_first_even_if_there_are_few(answers):
    labels = '{"0": "a", "1": "b", "2": "c", "3": "d"}'
    first, second = answers(ImageClassifier, MODELS, labels)
    assert list(first) == ["b", "d", "c", "a"]
    assert sum(second.values()) == pytest.approx(1)


def test_a_segmenter_gives_class_and_probability_of_every_pixel(answers):
    assert answers(ImageSegmenter, SEGMENTS)[0] == [[[2.0, 1.0]] * 2] * 2


def test_a_detector_gives_the_boxes_above_the_threshold(answers):
    assert answers(ObjectDetector, BOXES) == [[{"cat": [0.0, 1.0, 2.0, 3.0], "score": 0.75}]] * 2
