import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from ts.torch_handler.vision_handler import VisionHandler

PIXELS = np.array([[0, 64, 128], [192, 255, 32]], dtype=np.uint8)

IMAGE_NET = """
import torch

class ImageNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 2)

    def forward(self, x):
        return self.linear(x.flatten(1))
"""


class GreyHandler(VisionHandler):
    def image_processing(self, image):
        return torch.from_numpy(np.array(image, dtype=np.float32))


@pytest.fixture
def png():
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def handler(model_dir, make_context):
    (model_dir / "image_net.py").write_text(IMAGE_NET)
    made = GreyHandler()
    made.initialize(make_context(modelFile="image_net.py"))
    return made


def test_images_come_as_bytes_as_base64_text_and_as_numbers(handler, png):
    rows = [{"data": bytearray(png)}, {"body": base64.b64encode(png).decode()}, {"body": PIXELS.tolist()}]
    batch = handler.preprocess(rows)
    assert batch.shape == (3, 2, 3)
    assert all(torch.equal(image, torch.from_numpy(PIXELS).float()) for image in batch)


def test_a_batch_of_images_is_answered(handler, png, make_context):
    answers = handler.handle([{"data": png}, {"data": png}], make_context(rows=2))
    assert len(answers) == 2
    assert answers[0] == answers[1]


def test_an_explanation_has_the_shape_of_the_input(handler, png, make_context):
    context = make_context(headers={"explain": "True"})
    assert np.array(handler.handle([{"body": png, "target": 1}], context)).shape == (1, 2, 3)


def test_the_limit_of_pixels_can_be_lifted(model_dir, make_context, monkeypatch):
    (model_dir / "image_net.py").write_text(IMAGE_NET)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    context = make_context(modelFile="image_net.py")
    GreyHandler().initialize(context)
    assert Image.MAX_IMAGE_PIXELS == 1000
    context.system_properties["limit_max_image_pixels"] = False
    GreyHandler().initialize(context)
    assert Image.MAX_IMAGE_PIXELS is None
