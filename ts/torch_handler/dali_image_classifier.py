"""Top classes of an image that NVIDIA DALI prepared."""

from torch.nn.functional import softmax

from ts.utils.util import map_class_to_label

from .dali_handler import DALIHandler


class DALIImageClassifier(DALIHandler):
    """`{label: probability}` of the `topk` best classes, best first."""

    topk = 5

    def postprocess(self, data):
        probabilities = softmax(data, dim=1)
        best, classes = probabilities.topk(min(self.topk, probabilities.size(1)), dim=1)
        return map_class_to_label(best.tolist(), self.mapping, classes.tolist())
