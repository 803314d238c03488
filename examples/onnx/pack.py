"""Exports a small network to ONNX and packs it as onnx_net.mar.

python examples/onnx/pack.py [model_store]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent


def network() -> torch.nn.Module:
    """The same weights on every run."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()


def export(path: Path) -> None:
    """The input is called `x`, and any number of rows goes in."""
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        network(), (torch.zeros(2, 4),), path,
        input_names=["x"], dynamic_shapes=({0: batch},), external_data=False,
    )  # fmt: skip


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    with TemporaryDirectory() as scratch:
        model = Path(scratch) / "net.onnx"
        export(model)
        return write(
            ArchiveSpec(
                model_name="onnx_net",
                version="1.0",
                serialized_file=str(model),
                handler=str(HERE / "handler.py"),
                config_file=str(HERE / "model-config.yaml"),
                export_path=store,
                force=True,
            )
        )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
