"""Images decoded and prepared on the GPU by NVIDIA DALI."""

from abc import ABC

import numpy as np
import torch

from ts.handler_utils.preprocess.dali import INPUT_NAME, get_dali_pipeline

from .base_handler import BaseHandler


class DALIHandler(BaseHandler, ABC):
    """The pipeline has one external source named `my_source` and one output of equal shapes."""

    def initialize(self, context):
        super().initialize(context)
        self.pipeline = get_dali_pipeline(context)

    def preprocess(self, data):
        images = [np.frombuffer(bytes(row.get("data") or row.get("body")), dtype=np.uint8) for row in data]
        self.pipeline.feed_input(INPUT_NAME, images)
        (output,) = self.pipeline.run()
        output = output.as_cpu() if hasattr(output, "as_cpu") else output
        return torch.as_tensor(np.asarray(output.as_array())).to(self.device)
