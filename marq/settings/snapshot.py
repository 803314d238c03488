"""TorchServe's snapshots: `model_snapshot` of a config.properties as marq's own settings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SHAPE = '{"models": {name: {version: {"marName": file, ...}}}}'


class Version(NamedTuple):
    """One model version of a snapshot: the file of its archive, and all that is stored for it."""

    name: str
    version: str
    file: str
    stored: dict[str, object]


def translate(text: str) -> tuple[str, str]:
    """The settings `models` and `model_settings` for the models of a snapshot. Raises ValueError."""
    found = list(versions(text))
    settings: dict[str, dict[str, object]] = {}
    for each in found:
        chosen = {k: v for k, v in each.stored.items() if k != "marName"}
        settings.setdefault(each.name, {})[each.version] = chosen
    return ",".join(f"{each.name}={each.file}" for each in found), json.dumps(settings)


def missing(text: str, store: Path | None) -> str | None:
    """Which archive of a snapshot is not in the model store, in TorchServe's words."""
    for name, version, file, _ in versions(text):
        if store is None or not (store / file).exists():
            return f"Model archive file for model :{name}, version :{version} not found in model store"
    return None


def versions(text: str) -> Iterator[Version]:
    """The model versions of a snapshot. Raises ValueError."""
    try:
        for name, by_version in json.loads(text)["models"].items():
            for version, stored in by_version.items():
                if not isinstance(file := stored["marName"], str):
                    raise TypeError
                yield Version(name, version, file, stored)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"must be a snapshot, a JSON object {SHAPE}, but is not") from None
