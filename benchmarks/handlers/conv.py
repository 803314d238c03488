"""Runs the network on the CPU: the load measures mostly the model."""

import torch
from conv_net import image

from ts.torch_handler.base_handler import BaseHandler


class ConvHandler(BaseHandler):
    def preprocess(self, data):
        rows = [row.get("data") or row.get("body") for row in data]
        return torch.stack([image(row["x"]) for row in rows])

    def postprocess(self, scores):
        return [[round(score, 4) for score in row] for row in scores.tolist()]
