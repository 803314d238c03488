"""The whole handler: functions. Batches, devices and weights are not their business."""

import io
import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from resnet import ResNet  # one of the extra files

from base_handler import handler_factory

NAMES = ("circle", "cross", "square")
SIDE = 24  # pixels
WIDTHS = (8, 16, 32)


def init_function(widths):
    """The model, without its weights."""
    return ResNet(len(NAMES), widths)


def preprocess(image):
    """The bytes of one image file as the model's input."""
    grey = Image.open(io.BytesIO(image)).convert("L").resize((SIDE, SIDE))
    return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255).unsqueeze(0)


def postprocess(scores):
    """One answer."""
    from rounding import rounded  # install_packages makes it, after this file is imported

    probabilities = scores.softmax(dim=0)
    name = NAMES[int(probabilities.argmax())]
    corners = json.loads(Path("corners.json").read_text())
    return {"shape": name, "probability": rounded(probabilities.max()), "corners": corners[name]}


def unpack_dependencies():
    """Files that the model needs: here a zip file among the extra files, elsewhere often a download."""
    with zipfile.ZipFile("corners.zip") as file:
        file.extractall()


def install_packages():
    """Programs that pip does not install: here a project among the extra files, elsewhere often a clone."""
    subprocess.run(["sh", "project/build.sh"], check=True)


handler = handler_factory(
    init_function=init_function,
    preprocess_function=preprocess,
    postprocess_function=postprocess,
    install_packages=install_packages,
    unpack_dependencies=unpack_dependencies,
    widths=WIDTHS,
)
