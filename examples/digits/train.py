"""Trains the network on scikit-learn's 1,797 digits in a few seconds, the same on every run.

python examples/digits/train.py
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from handler import to_tensor
from model import DigitNet
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 0
EPOCHS = 25
BATCH_SIZE = 64
HELD_OUT = 0.25  # of all images


@dataclass(frozen=True)
class Digits:
    """Images as PNG files, with the digits that they show."""

    images: list[bytes]
    labels: list[int]

    def __len__(self) -> int:
        return len(self.images)

    def tensors(self) -> torch.Tensor:
        return torch.stack([to_tensor(image) for image in self.images])


def load() -> tuple[Digits, Digits]:
    """(training, held-out) images; each digit has the same share of both."""
    data = load_digits()
    images = [to_png(image) for image in data.images]
    parts = train_test_split(
        images, data.target.tolist(), test_size=HELD_OUT, random_state=SEED, stratify=data.target
    )
    return Digits(parts[0], parts[2]), Digits(parts[1], parts[3])


def to_png(image: np.ndarray) -> bytes:
    """An 8x8 image with values from 0 to 16 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def train(training: Digits, epochs: int = EPOCHS) -> DigitNet:
    """A trained network, ready to be called."""
    torch.manual_seed(SEED)
    network = DigitNet()
    images, labels = training.tensors(), torch.tensor(training.labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def predict(network: DigitNet, digits: Digits) -> list[int]:
    """The network's own answers, without any server."""
    return network(digits.tensors()).argmax(dim=1).tolist()


def accuracy(predicted: list[int], labels: list[int]) -> float:
    """The share of right answers."""
    return sum(p == label for p, label in zip(predicted, labels, strict=True)) / len(labels)


def limit_threads() -> None:
    """The network is small: on busy cores more threads would mostly wait for each other."""
    torch.set_num_threads(1)


def main() -> None:
    limit_threads()
    training, held_out = load()
    network = train(training)
    for name, digits in (("training", training), ("held-out", held_out)):
        share = accuracy(predict(network, digits), digits.labels)
        print(f"{name} images: {len(digits):5}, accuracy {share:.2%}")


if __name__ == "__main__":
    main()
