"""Trains the network on the sine and packs it as sine.mar.

python examples/eager/pack.py [model_store]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from model import Curve

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent
STEPS = 400


def train() -> Curve:
    """The same weights on every run."""
    torch.manual_seed(0)
    curve = Curve()
    optimizer = torch.optim.Adam(curve.parameters(), lr=0.01)
    x = torch.linspace(-torch.pi, torch.pi, 256).unsqueeze(1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(curve(x), x.sin()).backward()
        optimizer.step()
    return curve.eval()


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    with TemporaryDirectory() as scratch:
        weights = Path(scratch) / "sine.pth"
        torch.save(train().state_dict(), weights)
        return write(
            ArchiveSpec(
                model_name="sine",
                version="1.0",
                model_file=str(HERE / "model.py"),
                serialized_file=str(weights),
                handler=str(HERE / "handler.py"),
                export_path=store,
                force=True,
            )
        )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
