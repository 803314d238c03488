"""Two networks with random weights: one as large as a ResNet-50, one as a small transformer encoder."""

import torch
from torch import nn

SIZES = {"resnet": 64, "transformer": 768}  # channels of the first stage; width


class Bottleneck(nn.Module):
    """Three convolutions around a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.main = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


def resnet(width: int) -> nn.Module:
    """The stages of a ResNet-50: 3, 4, 6 and 3 blocks."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = width
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width << stage, 2 if stage and not block else 1))
            inputs = 4 * (width << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def transformer(width: int) -> nn.Module:
    """Twelve layers, as BERT's smaller one has."""
    layer = nn.TransformerEncoderLayer(width, max(1, width // 64), 4 * width, batch_first=True)
    return nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)


def build(kind: str, width: int, device: torch.device) -> tuple[nn.Module, torch.Tensor]:
    """The network on the device, and one row of its input."""
    torch.manual_seed(0)
    net = (resnet if kind == "resnet" else transformer)(width).eval().to(device)
    shape = (3, 224, 224) if kind == "resnet" else (128, width)
    return net, torch.randn(shape, device=device)
