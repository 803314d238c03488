"""Packs the models: running_sums.mar, decoder.mar and streamed_sums.mar.

python examples/stateful/pack.py [model_store]
"""

import sys
from pathlib import Path

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent


def pack(store: Path, name: str = "running_sums", source: str = "sums") -> Path:
    """Writes an archive into the model store (replacing an old one) and returns its path."""
    return write(
        ArchiveSpec(
            model_name=name,
            version="1.0",
            handler=str(HERE / f"{source}.py"),
            config_file=str(HERE / f"{source}.yaml"),
            export_path=store,
            force=True,
        )
    )


if __name__ == "__main__":
    for model in (("running_sums", "sums"), ("decoder", "decoder"), ("streamed_sums", "streamed_sums")):
        print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store"), *model))
