"""Packs the model and its handler as image_facts.mar.

python examples/micro_batching/pack.py [model_store]
"""

import sys
from pathlib import Path

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    return write(
        ArchiveSpec(
            model_name="image_facts",
            version="1.0",
            model_file=str(HERE / "model.py"),
            handler=str(HERE / "handler.py"),
            config_file=str(HERE / "model-config.yaml"),
            export_path=store,
            force=True,
        )
    )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
