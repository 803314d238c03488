"""Tensors in and out as `torch.save` writes them, one request at a time."""

import io

import torch

from .base_handler import BaseHandler


class DenseNetHandler(BaseHandler):
    def preprocess(self, data):
        value = data[0].get("data") or data[0].get("body")
        return torch.load(io.BytesIO(value), map_location=self.device, weights_only=True)

    def postprocess(self, data):
        file = io.BytesIO()
        torch.save(data, file)
        return [file.getvalue()]
