"""Makes a torchvision that was built for CUDA importable beside a PyTorch without it.

Its compiled operators do not load there. Their names are declared before the first import of torchvision, and
`nms`, which detection models need, is written in Python. Only for tests: it goes on PYTHONPATH.
"""

import importlib.abc
import importlib.machinery
import re
import sys
from pathlib import Path

_NAMED = re.compile(r"torchvision::(\w+)|@register_meta\(\"(\w+)\"\)")
_kept = []  # a library's operators live as long as it does


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing; it is asked first."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            _declare()


def _declare():
    import torch

    spec = importlib.machinery.PathFinder.find_spec("torchvision")
    if spec is None or torch.version.cuda is not None:
        return
    source = (Path(spec.submodule_search_locations[0]) / "_meta_registrations.py").read_text()
    names = {first or second for first, second in _NAMED.findall(source)} - {"nms"}
    library = torch.library.Library("torchvision", "DEF")
    _kept.append(library)
    for name in names:
        library.define(f"{name}(Tensor x) -> Tensor")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    library.define("_cuda_version() -> int")
    library.impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")
    load = torch.ops.load_library
    torch.ops.load_library = lambda path: None if "torchvision" in str(path) else load(path)


def _nms(boxes, scores, threshold):
    """The boxes to keep, best first: none overlaps a better one by more than the threshold."""
    import torch

    kept = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    left = scores.argsort(descending=True)
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        low, high = boxes[left, :2].maximum(boxes[best, :2]), boxes[left, 2:].minimum(boxes[best, 2:])
        overlap = (high - low).clamp(min=0).prod(dim=1)
        left = left[overlap / (areas[left] + areas[best] - overlap) <= threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long)


sys.meta_path.insert(0, _BeforeTorchvision())
