"""A model without PyTorch: the archive's file is a scikit-learn classifier.

A handler may be a function. It is called once without data, to get ready, and then with each batch.
"""

from pathlib import Path

import joblib

NAMES = ("setosa", "versicolor", "virginica")
FEATURES = 4  # lengths and widths of sepal and petal, in cm

_classifier = None


def handle(data, context):
    """Answers `{"species": "setosa", "probability": 0.98}` for `[5.1, 3.5, 1.4, 0.2]`."""
    global _classifier
    if data is None:
        description = context.manifest["model"]
        _classifier = joblib.load(
            Path(context.system_properties["model_dir"]) / description["serializedFile"]
        )
        return None
    flowers = [row.get("data") or row.get("body") for row in data]
    good = [index for index, flower in enumerate(flowers) if is_flower(flower)]
    answers = dict(zip(good, _classify([flowers[index] for index in good]), strict=True))
    return [answers.get(index) or _refuse(index, context) for index in range(len(data))]


def is_flower(value) -> bool:
    return (
        isinstance(value, list)
        and len(value) == FEATURES
        and all(isinstance(part, int | float) for part in value)
    )


def _classify(flowers):
    if not flowers:
        return []
    probabilities = _classifier.predict_proba(flowers)
    return [
        {"species": NAMES[row.argmax()], "probability": round(float(row.max()), 4)} for row in probabilities
    ]


def _refuse(index, context):
    context.set_response_status(400, "Bad Request", index)
    return {"error": f"Send {FEATURES} numbers as JSON."}
