"""Counts which word follows which, and packs the model as writer.mar.

python examples/streaming/pack.py [model_store]
"""

import itertools
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from model import TEXT, WORDS, NextWord

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent
NEVER = -20.0  # a score that leaves a word without a chance


def train() -> NextWord:
    """A word's score is the logarithm of how often it follows."""
    counts = torch.zeros(len(WORDS), len(WORDS))
    for word, following in itertools.pairwise(TEXT.split()):
        counts[WORDS.index(word), WORDS.index(following)] += 1
    model = NextWord()
    model.scores.weight.data = counts.log().clamp(min=NEVER)
    return model.eval()


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    with TemporaryDirectory() as scratch:
        weights = Path(scratch) / "writer.pth"
        torch.save(train().state_dict(), weights)
        return write(
            ArchiveSpec(
                model_name="writer",
                version="1.0",
                model_file=str(HERE / "model.py"),
                serialized_file=str(weights),
                handler=str(HERE / "handler.py"),
                config_file=str(HERE / "model-config.yaml"),
                export_path=store,
                force=True,
            )
        )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
