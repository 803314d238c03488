"""A model of 200 MB: one matrix."""

import torch

SIDE = 7240  # float32: 7240 * 7240 * 4 bytes


class LargeNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(SIDE, SIDE)

    def forward(self, x):
        return self.layer(x)
