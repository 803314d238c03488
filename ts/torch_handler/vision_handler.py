"""Images in: base64 text, encoded files or nested lists of numbers, stacked to one tensor."""

import base64
import io
from abc import ABC
from functools import cached_property

import torch

from ts.handler_utils.timer import timed

from ._require import require
from .base_handler import BaseHandler


class VisionHandler(BaseHandler, ABC):
    """Subclasses give `image_processing`, which makes a tensor of a PIL image."""

    def initialize(self, context):
        super().initialize(context)
        if not context.system_properties.get("limit_max_image_pixels", True):
            require("PIL.Image", "pillow").MAX_IMAGE_PIXELS = None

    @cached_property
    def ig(self):
        return require("captum.attr", "captum").IntegratedGradients(self.model)

    @timed
    def preprocess(self, data):
        images = [self._to_tensor(row.get("data") or row.get("body")) for row in data]
        return torch.stack(images).to(self.device)

    def _to_tensor(self, image):
        if isinstance(image, str):
            image = base64.b64decode(image)
        if isinstance(image, (bytes, bytearray)):
            return self.image_processing(require("PIL.Image", "pillow").open(io.BytesIO(image)))
        return torch.FloatTensor(image)

    def get_insights(self, tensor_data, _, target=0):
        """The attribution of each input value to the class `target`."""
        return self.ig.attribute(tensor_data, target=target, n_steps=15).tolist()
