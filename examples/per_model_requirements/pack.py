"""Packs the handler twice, each time with another version of the package that it imports.

python examples/per_model_requirements/pack.py [model_store]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from make_wheel import make_wheel

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent
VERSIONS = {"characters": "1.0", "words": "2.0"}  # model -> the version of tinytext that it needs


def pack(store: Path) -> list[Path]:
    """Writes the archives into the model store (replacing old ones) and returns their paths."""
    return [_pack(name, version, store) for name, version in VERSIONS.items()]


def _pack(name: str, version: str, store: Path) -> Path:
    with TemporaryDirectory() as scratch:
        wheel = make_wheel(HERE / f"tinytext-{version}/tinytext.py", version, Path(scratch))
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"./{wheel.name}\n")
        return write(
            ArchiveSpec(
                model_name=name,
                version="1.0",
                handler=str(HERE / "handler.py"),
                requirements_file=str(requirements),
                extra_files=(str(wheel),),
                export_path=store,
                force=True,
            )
        )


if __name__ == "__main__":
    for archive in pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")):
        print(archive)
