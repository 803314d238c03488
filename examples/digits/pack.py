"""Packs the trained network, its class and its handler as digits.mar.

python examples/digits/pack.py --export-path model_store
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import train
from model import DigitNet

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent
NAME, VERSION = "digits", "1.0"


def pack(network: DigitNet, store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    with TemporaryDirectory(prefix="digits-") as scratch:
        weights = Path(scratch) / "digits.pth"
        torch.save(network.state_dict(), weights)
        return write(
            ArchiveSpec(
                model_name=NAME,
                version=VERSION,
                model_file=str(HERE / "model.py"),
                serialized_file=str(weights),
                handler=str(HERE / "handler.py"),
                config_file=str(HERE / "model-config.yaml"),
                export_path=store,
                force=True,
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--export-path", type=Path, default=Path("model_store"), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=train.EPOCHS, help="default: %(default)s")
    args = parser.parse_args()
    train.limit_threads()
    training, held_out = train.load()
    network = train.train(training, args.epochs)
    share = train.accuracy(train.predict(network, held_out), held_out.labels)
    print(f"{share:.2%} of {len(held_out)} held-out digits are read right")
    print(pack(network, args.export_path))


if __name__ == "__main__":
    main()
