"""What the archive does with a batch of requests: images in, digits out."""

import io
import logging

import numpy as np
import torch
from PIL import Image

from ts.torch_handler.base_handler import BaseHandler

logger = logging.getLogger(__name__)

SIDE = 8  # pixels


def to_tensor(image: bytes) -> torch.Tensor:
    """One image file as the network's input (1, 8, 8)."""
    grey = Image.open(io.BytesIO(image)).convert("L").resize((SIDE, SIDE))
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255).unsqueeze(0)


class DigitsHandler(BaseHandler):
    """Answers `{"digit": 7, "probability": 0.998}` for each image; other rows get a 400 each."""

    def preprocess(self, data):
        self.unreadable = set()
        tensors = [self._read(i, row.get("data") or row.get("body")) for i, row in enumerate(data)]
        return torch.stack(tensors).to(self.device)

    def postprocess(self, scores):
        best = scores.softmax(dim=1).max(dim=1)
        answers = [
            {"digit": digit, "probability": round(probability, 4)}
            for digit, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        for i in self.unreadable:
            self.context.set_response_status(400, "Bad Request", i)
            answers[i] = {"error": "Send the bytes of an image file, such as a PNG."}
        return answers

    def _read(self, i, image):
        """A blank stands in for an image that cannot be read, so that its neighbours get their answers."""
        try:
            return to_tensor(image)
        except Exception as error:  # Pillow raises many kinds for broken files
            logger.warning("request %s: %s", self.context.get_request_id(i), error)
            self.unreadable.add(i)
            return torch.zeros(1, SIDE, SIDE)
