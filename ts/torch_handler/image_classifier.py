"""Top classes of an image."""

from torch.nn.functional import softmax

from ts.handler_utils.timer import timed
from ts.utils.util import map_class_to_label

from ._require import require
from .vision_handler import VisionHandler

transforms = require("torchvision.transforms", "torchvision")

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]


class ImageClassifier(VisionHandler):
    """`{label: probability}` of the `topk` best classes, best first."""

    topk = 5
    image_processing = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=IMAGENET_MEAN, std=IMAGENET_STD),
        ]
    )

    def set_max_result_classes(self, topk):
        self.topk = topk

    def get_max_result_classes(self):
        return self.topk

    @timed
    def postprocess(self, data):
        probabilities = softmax(data, dim=1)
        best, classes = probabilities.topk(min(self.topk, probabilities.size(1)), dim=1)
        return map_class_to_label(best.tolist(), self.mapping, classes.tolist())
