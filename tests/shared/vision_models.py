"""Small torchvision models with random weights, and what they answer: `python vision_models.py DIRECTORY`.

Runs where torchvision is; writes for each kind `model.py`, weights and the answer to `image.png`.
"""

import importlib.util
import json
import sys
from pathlib import Path

SOURCES = {
    "image_classifier": """
from torchvision.models.resnet import BasicBlock, ResNet


class Classifier(ResNet):
    def __init__(self):
        super().__init__(BasicBlock, [1, 1, 1, 1], num_classes=10)
""",
    "image_segmenter": """
import torch
from torchvision.models.segmentation import lraspp_mobilenet_v3_large


class Segmenter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)

    def forward(self, images):
        return self.net(images)
""",
    "object_detector": """
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large


class Detector(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)

    def forward(self, images):
        return self.net(images)
""",
}


def make(directory):
    import torch
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (300, 260, 3), dtype=torch.uint8, generator=generator)
    image = Image.fromarray(pixels.numpy())
    image.save(directory / "image.png")
    for kind, source in SOURCES.items():
        folder = directory / kind
        folder.mkdir()
        (folder / "model.py").write_text(source)
        torch.manual_seed(0)
        network = _network(folder / "model.py").eval()
        if kind == "object_detector":  # as it is made, all scores are nearly one half
            for part in network.net.head.classification_head.module_list:
                torch.nn.init.normal_(part[-1].bias, mean=-0.4, std=0.3).detach().view(-1, 2)[:, 0].neg_()
        torch.save(network.state_dict(), folder / "weights.pth")
        with torch.inference_mode():
            (folder / "answer.json").write_text(json.dumps(_answer(kind, network, image)))


def _network(path):
    spec = importlib.util.spec_from_file_location("model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(v for v in vars(module).values() if isinstance(v, type) and v.__module__ == "model")()


def _answer(kind, network, image):
    """The model's own output for the image, prepared as its kind is."""
    from torchvision.transforms import functional as f

    if kind == "object_detector":
        found = network([f.to_tensor(image)])[0]
        return {name: values.tolist() for name, values in found.items()}
    tensor = f.normalize(
        f.to_tensor(f.center_crop(f.resize(image, 256), 224)), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    output = network(tensor[None])
    return (output["out"] if kind == "image_segmenter" else output)[0].softmax(dim=0).tolist()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
