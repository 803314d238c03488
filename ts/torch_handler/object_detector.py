"""Boxes around the objects in an image."""

import torch

from ts.handler_utils.timer import timed
from ts.utils.util import map_class_to_label

from ._require import require
from .vision_handler import VisionHandler

transforms = require("torchvision.transforms", "torchvision")


class ObjectDetector(VisionHandler):
    """`{label: [x1, y1, x2, y2], "score": s}` for each box whose score is above `threshold`."""

    threshold = 0.5
    image_processing = transforms.Compose([transforms.ToTensor()])

    @timed
    def inference(self, data, *args, **kwargs):
        """Detection models take a list of images, which may differ in size."""
        with torch.inference_mode():
            return self.model([image.to(self.device) for image in data], *args, **kwargs)

    @timed
    def postprocess(self, data):
        return [self._boxes(found) for found in data]

    def _boxes(self, found):
        above = found["scores"] > self.threshold
        boxes = found["boxes"][above].tolist()
        classes = [[label] for label in found["labels"][above].tolist()]
        labels = map_class_to_label([[box] for box in boxes], self.mapping, classes)
        scores = found["scores"][above].tolist()
        return [{**label, "score": score} for label, score in zip(labels, scores, strict=True)]
