"""TorchServe's snapshots: `model_snapshot` of a config.properties as marq's own settings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHAPE = '{"models": {name: {version: {"marName": file, ...}}}}'


def translate(text: str) -> tuple[str, str]:
    """The settings `models` and `model_settings` for the models of a snapshot. Raises ValueError."""
    found = list(versions(text))
    settings: dict[str, dict[str, Any]] = {}
    for name, version, stored in found:
        settings.setdefault(name, {})[version] = {k: v for k, v in stored.items() if k != "marName"}
    return ",".join(f"{name}={stored['marName']}" for name, _, stored in found), json.dumps(settings)


def missing(text: str, store: Path | None) -> str | None:
    """Which archive of a snapshot is not in the model store, in TorchServe's words."""
    for name, version, stored in versions(text):
        if store is None or not (store / stored["marName"]).exists():
            return f"Model archive file for model :{name}, version :{version} not found in model store"
    return None


def versions(text: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, version and stored settings of each model version of a snapshot. Raises ValueError."""
    try:
        for name, by_version in json.loads(text)["models"].items():
            for version, stored in by_version.items():
                stored["marName"]  # must be there
                yield name, version, stored
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"must be a snapshot, a JSON object {SHAPE}, but is not") from None
