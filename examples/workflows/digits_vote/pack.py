"""Trains two classifiers on the digits that scikit-learn brings, and packs them with their workflow.

python examples/workflows/digits_vote/pack.py [model_store]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from archive.packing import workflow
from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent
EVERY = 5  # image is held back from the training


def images() -> tuple[list[list[float]], list[int]]:
    """All images, 64 numbers from 0 to 16 each, and the digits that they show."""
    pixels, digits = load_digits(return_X_y=True)
    return pixels.tolist(), digits.tolist()


def train() -> dict[str, ClassifierMixin]:
    pixels, digits = images()
    chosen = [number for number in range(len(digits)) if number % EVERY]
    rows, labels = [[each / 16 for each in pixels[n]] for n in chosen], [digits[n] for n in chosen]
    classifiers = {"logistic": LogisticRegression(max_iter=500), "nearest": KNeighborsClassifier()}
    return {name: each.fit(rows, labels) for name, each in classifiers.items()}


def pack(store: Path) -> Path:
    """Writes all archives into the model store (replacing old ones); returns the path of the workflow's."""
    for name, classifier in train().items():
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / f"{name}.joblib"
            joblib.dump(classifier, file)
            write(
                ArchiveSpec(
                    model_name=name,
                    version="1.0",
                    serialized_file=str(file),
                    handler=str(HERE / "handler.py"),
                    export_path=store,
                    force=True,
                )
            )
    files = str(HERE / "workflow.yaml"), str(HERE / "functions.py")
    return workflow.write(workflow.WorkflowSpec("digits_vote", *files, export_path=store, force=True))


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
