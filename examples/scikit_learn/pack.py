"""Trains a classifier on the 150 irises that scikit-learn brings, and packs it as iris.mar.

python examples/scikit_learn/pack.py [model_store]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent


def train() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(*load_iris(return_X_y=True))


def pack(store: Path) -> Path:
    """Writes the archive into the model store (replacing an old one) and returns its path."""
    with TemporaryDirectory() as scratch:
        classifier = Path(scratch) / "iris.joblib"
        joblib.dump(train(), classifier)
        return write(
            ArchiveSpec(
                model_name="iris",
                version="1.0",
                serialized_file=str(classifier),
                handler=str(HERE / "handler.py"),
                config_file=str(HERE / "model-config.yaml"),
                export_path=store,
                force=True,
            )
        )


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
