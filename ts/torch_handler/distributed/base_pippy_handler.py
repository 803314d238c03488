"""For handlers that spread their model over several processes with RPC."""

import os
from abc import ABC

import torch

from ts.handler_utils.distributed.pt_pippy import initialize_rpc_workers
from ts.torch_handler.base_handler import BaseHandler


class BasePippyHandler(BaseHandler, ABC):
    """Subclasses load the model themselves; this joins the process to the others of its model."""

    def initialize(self, ctx):
        self.context = ctx
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        self.device = (
            torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")
        )
        initialize_rpc_workers(self.local_rank, self.world_size, ctx)
