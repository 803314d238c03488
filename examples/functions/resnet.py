"""A small residual network. `build.sh` gets it in a tar file of extra files."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.around = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x) + self.around(x)).relu()


class ResNet(nn.Module):
    """Grey images (batch, 1, height, width) in; one score for each class out."""

    def __init__(self, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        first = widths[0]
        blocks = [Block(first, first, stride=1)]
        for inputs, outputs in pairwise(widths):
            blocks.append(Block(inputs, outputs, stride=2))
        self.stem = nn.Sequential(nn.Conv2d(1, first, 3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))
