"""For handlers that run their model with DeepSpeed, one process per device."""

import os
from abc import ABC

from ts.torch_handler.base_handler import BaseHandler


class BaseDeepSpeedHandler(BaseHandler, ABC):
    """Subclasses load the model themselves, with `ts.handler_utils.distributed.deepspeed`."""

    def initialize(self, ctx):
        self.context = ctx
        self.model_yaml_config = ctx.model_yaml_config
        self.device = int(os.environ.get("LOCAL_RANK", "0"))
