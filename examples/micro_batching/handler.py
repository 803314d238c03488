"""A batch is cut into parts: while the model works on one, the images of the next are being unpacked."""

import zlib

import torch

from ts.handler_utils.micro_batching import MicroBatching
from ts.torch_handler.base_handler import BaseHandler

SIDE = 128  # pixels
NAMES = ("brightness", "contrast", "edges")


class MicroBatchingHandler(BaseHandler):
    """Three facts about each image: SIDE x SIDE bytes, packed by zlib.

    The steps run in threads of their own. What one of them leaves for another must be in what it returns.
    """

    def __init__(self):
        super().__init__()
        self.handle = MicroBatching(self)

    def initialize(self, context):
        super().initialize(context)
        settings = context.model_yaml_config["micro_batching"]
        self.handle.micro_batch_size = settings["micro_batch_size"]
        self.handle.parallelism = settings["parallelism"]

    def preprocess(self, data):
        images = [bytearray(zlib.decompress(row.get("data") or row.get("body"))) for row in data]
        pixels = torch.stack([torch.frombuffer(image, dtype=torch.uint8) for image in images])
        return pixels.reshape(-1, SIDE, SIDE).to(self.device) / 255

    def postprocess(self, output):
        part = self.handle.get_micro_batch_idx()
        return [
            {"part": part, **{name: round(fact, 4) for name, fact in zip(NAMES, row, strict=True)}}
            for row in output.tolist()
        ]
