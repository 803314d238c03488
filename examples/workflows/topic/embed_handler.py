"""The first model: a sentence becomes a vector."""

from pathlib import Path

import joblib

_embedding = None


def handle(data, context):
    """A list of numbers for each sentence, which comes as text."""
    global _embedding
    if data is None:
        name = context.manifest["model"]["serializedFile"]
        _embedding = joblib.load(Path(context.system_properties["model_dir"]) / name)
        return None
    sentences = [row["body"] if isinstance(row["body"], str) else bytes(row["body"]).decode() for row in data]
    return [[round(float(each), 6) for each in row] for row in _embedding.transform(sentences)]
