"""A handler whose model is an ONNX Runtime session."""

import numpy as np

from ts.torch_handler.base_handler import BaseHandler

SIZE = 4


class OnnxHandler(BaseHandler):
    """Answers the model's two numbers for each JSON list of four. BaseHandler opens the `.onnx` file."""

    def preprocess(self, data):
        return np.array([row.get("data") or row.get("body") for row in data], dtype=np.float32)

    def inference(self, data):
        return self.model.run(None, {"x": data})[0]
