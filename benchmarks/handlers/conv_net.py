"""A small convolutional network with fixed random weights, and the image that a request stands for."""

import torch
from torch import nn

CHANNELS, SIDE, CLASSES = 3, 32, 10


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(CHANNELS, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, CLASSES),
        )

    def forward(self, images):
        return self.layers(images)


def image(x):
    """Waves whose length depends on `x`: another image for each request, made on the fly."""
    steps = torch.arange(CHANNELS * SIDE * SIDE, dtype=torch.float32)
    return torch.sin(steps * (0.01 * x)).reshape(CHANNELS, SIDE, SIDE)
