"""The second model: a vector becomes the probability of each topic."""

import json
from pathlib import Path

import joblib

_classifier = None


def handle(data, context):
    """A list of probabilities for each vector, which comes as the bytes of the node before."""
    global _classifier
    if data is None:
        name = context.manifest["model"]["serializedFile"]
        _classifier = joblib.load(Path(context.system_properties["model_dir"]) / name)
        return None
    vectors = [json.loads(bytes(row["body"])) for row in data]
    return [[round(float(each), 4) for each in row] for row in _classifier.predict_proba(vectors)]
