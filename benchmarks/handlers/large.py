"""A BaseHandler that has used all of its weights when it is ready, and answers with numbers from them."""

import os

import torch

from ts.torch_handler.base_handler import BaseHandler


class LargeHandler(BaseHandler):
    """With `MEMORY_COPIES=true` each process reads the weights into memory of its own, as TorchServe does."""

    def initialize(self, context):
        super().initialize(context)
        with torch.inference_mode():
            self.model(torch.zeros(1, self.model.layer.in_features))

    def _load_pickled_model(self, model_dir, model_file, model_pt_path):
        if os.environ.get("MEMORY_COPIES") != "true":
            return super()._load_pickled_model(model_dir, model_file, model_pt_path)
        from large_net import LargeNet

        model = LargeNet()
        model.load_state_dict(torch.load(model_pt_path, map_location=self.device, weights_only=True))
        return model

    def preprocess(self, data):
        return torch.ones(len(data), self.model.layer.in_features)

    def postprocess(self, data):
        return data.sum(dim=1).tolist()
