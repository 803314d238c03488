"""Packs the handler as words.mar. It has no model file.

python examples/custom_metrics/pack.py [model_store]
"""

import sys
from pathlib import Path

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    return write(
        ArchiveSpec(
            model_name="words",
            version="1.0",
            handler=str(HERE / "handler.py"),
            export_path=store,
            force=True,
        )
    )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
