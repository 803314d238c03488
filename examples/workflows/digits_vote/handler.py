"""The handler of both classifiers: the archive's file is an estimator of scikit-learn."""

import json
from pathlib import Path

import joblib

_classifier = None


def handle(data, context):
    """The probability of each digit, for a list of 64 numbers."""
    global _classifier
    if data is None:
        name = context.manifest["model"]["serializedFile"]
        _classifier = joblib.load(Path(context.system_properties["model_dir"]) / name)
        return None
    # The answer of the node before comes as bytes
    rows = [json.loads(bytes(row["body"])) for row in data]
    return [[round(float(each), 4) for each in row] for row in _classifier.predict_proba(rows)]
