"""Draws circles, crosses and squares, trains the network on them and writes its state_dict.

python examples/functions/train.py shapes.pth
"""

import io
import random
import sys
from pathlib import Path

import torch
from handler import NAMES, SIDE, WIDTHS, init_function, preprocess
from PIL import Image, ImageDraw

IMAGES, EPOCHS, BATCH_SIZE, RATE = 300, 8, 25, 0.01


def draw(name: str, rng: random.Random) -> bytes:
    """A PNG file of a light shape on a dark ground."""
    image = Image.new("L", (SIDE, SIDE), rng.randint(0, 60))
    pen, light = ImageDraw.Draw(image), rng.randint(140, 255)
    size = rng.randint(10, 18)
    left, top = rng.randint(1, SIDE - size - 2), rng.randint(1, SIDE - size - 2)
    box = (left, top, left + size, top + size)
    if name == "circle":
        pen.ellipse(box, outline=light, width=2)
    elif name == "square":
        pen.rectangle(box, outline=light, width=2)
    else:
        pen.line(box, fill=light, width=2)
        pen.line((left, top + size, left + size, top), fill=light, width=2)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def train() -> torch.nn.Module:
    """The same weights on every run."""
    torch.manual_seed(0)
    rng = random.Random(0)
    labels = [index % len(NAMES) for index in range(IMAGES)]
    images = torch.stack([preprocess(draw(NAMES[label], rng)) for label in labels])
    targets = torch.tensor(labels)
    network = init_function(WIDTHS)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, EPOCHS * IMAGES // BATCH_SIZE)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(IMAGES).split(BATCH_SIZE):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[chosen]), targets[chosen]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


if __name__ == "__main__":
    torch.set_num_threads(1)  # the network is small
    torch.save(train().state_dict(), Path(sys.argv[1]))
