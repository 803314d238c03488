"""What the archive does with a batch of requests: numbers in, numbers out."""

import torch

from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException


class CurveHandler(BaseHandler):
    """Answers `{"y": 0.84}` for `{"x": 1.0}`. BaseHandler loads the model and runs it."""

    def preprocess(self, data):
        return torch.tensor([[number(row)] for row in data], device=self.device)

    def postprocess(self, output):
        return [{"y": round(y, 4)} for (y,) in output.tolist()]


def number(row) -> float:
    """The field `x` of a JSON body or of a form. A PredictionException answers the whole batch."""
    try:
        return float(row.get("body", row)["x"])
    except (KeyError, TypeError, ValueError) as error:
        raise PredictionException('Send a number, such as {"x": 1.0}', 400) from error
