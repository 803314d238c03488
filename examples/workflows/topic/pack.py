"""Trains an embedding and a classifier on a few sentences, and packs them with their workflow.

python examples/workflows/topic/pack.py [model_store]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
from sentences import TOPICS
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from archive.packing import workflow
from archive.packing.writer import ArchiveSpec, write

HERE = Path(__file__).resolve().parent
SIZE = 16  # numbers of a vector


def train() -> tuple[Pipeline, LogisticRegression]:
    """The same on every run."""
    names = sorted(TOPICS)
    sentences = [sentence for name in names for sentence in TOPICS[name]]
    labels = [number for number, name in enumerate(names) for _ in TOPICS[name]]
    embedding = make_pipeline(TfidfVectorizer(), TruncatedSVD(SIZE, random_state=0)).fit(sentences)
    return embedding, LogisticRegression(C=100).fit(embedding.transform(sentences), labels)


def pack(store: Path) -> Path:
    """Writes all archives into the model store (replacing old ones); returns the path of the workflow's."""
    for name, estimator in zip(("embed", "classify"), train(), strict=True):
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / f"{name}.joblib"
            joblib.dump(estimator, file)
            write(
                ArchiveSpec(
                    model_name=name,
                    version="1.0",
                    serialized_file=str(file),
                    handler=str(HERE / f"{name}_handler.py"),
                    export_path=store,
                    force=True,
                )
            )
    files = str(HERE / "workflow.yaml"), str(HERE / "functions.py")
    return workflow.write(workflow.WorkflowSpec("topic", *files, export_path=store, force=True))


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if sys.argv[1:] else "model_store")))
