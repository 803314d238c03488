"""Writes TorchServe's snapshots: config.properties with the registered models as `model_snapshot`.

TorchServe can start from these files, and marq from TorchServe's.
"""

import json
import logging
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import javaproperties

from archive.store.model_store import file_name
from marq.registry.snapshot import Models
from marq.registry.spec import ModelSpec
from marq.settings.snapshot_files import Snapshots, files
from marq.settings.torchserve_keys import SNAPSHOT
from ts.version import __version__

log = logging.getLogger(__name__)

STARTUP, CHANGE, SHUTDOWN = "startup", "snapshot", "shutdown"  # the occasions, as TorchServe names them
KEPT = 1000  # files; the oldest are deleted

State = dict[str, dict[str, dict[str, object]]]  # the settings of model versions, by name and version


def state(models: Models) -> State:
    """The models as a snapshot has them: equal if it would say the same. Nodes of workflows are not in it."""
    found: State = {}
    for spec in (each for each in models if not each.workflow):
        is_default = models.defaults.get(spec.name) == spec.version
        found.setdefault(spec.name, {})[spec.version] = _stored(spec, is_default)
    return found


def write(snapshots: Snapshots, occasion: str, models: State) -> None:
    """Writes a file with these models, in one step. Where that fails, the log says so."""
    folder = Path(snapshots.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).astimezone()
        while (path := folder / f"{now:%Y%m%d%H%M%S}{now.microsecond // 1000:03}-{occasion}.cfg").exists():
            now += timedelta(milliseconds=1)
        _write(path, _text(snapshots, path.name, now, models))
        for old in files(folder)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the snapshot of the models cannot be written: %s", error)


def _stored(spec: ModelSpec, is_default: bool) -> dict[str, object]:
    return {
        "defaultVersion": is_default,
        "marName": file_name(spec.url),
        "minWorkers": spec.min_workers,
        "maxWorkers": spec.max_workers,
        "batchSize": spec.batch_size,
        "maxBatchDelay": spec.max_batch_delay_ms,
        "responseTimeout": spec.response_timeout_s,
        "startupTimeout": spec.startup_timeout_s,
        "runtimeType": spec.runtime,
        **({"parallelLevel": spec.parallel_level} if spec.parallel_level > 0 else {}),
    }


def _text(snapshots: Snapshots, name: str, now: datetime, models: State) -> str:
    count = sum(map(len, models.values()))
    created = int(now.timestamp() * 1000)
    content = {"name": name, "modelCount": count, "created": created, "models": models}
    keys = {**snapshots.properties, "version": __version__, SNAPSHOT: json.dumps(content, indent=2)}
    return javaproperties.dumps(keys, comments="Saving snapshot", timestamp=now)


def _write(path: Path, text: str) -> None:
    """The unfinished file lies elsewhere: TorchServe takes every file of the folder for a snapshot.

    Only its user can read it, for it may hold the password of a keystore.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(name).replace(path)
