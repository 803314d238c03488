"""The class of every pixel of an image."""

import torch

from ts.handler_utils.timer import timed

from ._require import require
from .vision_handler import VisionHandler

transforms = require("torchvision.transforms", "torchvision")


class ImageSegmenter(VisionHandler):
    """`[class, probability]` per pixel; the model's answer is a dict with the scores under `out`."""

    image_processing = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )

    @timed
    def postprocess(self, data):
        probabilities, classes = torch.softmax(data["out"], dim=1).max(dim=1)
        return torch.stack([classes.type(probabilities.dtype), probabilities], dim=3).tolist()
