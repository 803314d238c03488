"""The files of TorchServe's snapshots, `logs/config/<time>-startup.cfg` and the like: which one a start uses.

`marq.control.snapshots` writes them.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from marq.settings import properties, snapshot
from marq.settings.torchserve_keys import SNAPSHOT, SNAPSHOT_FILE

FOLDER = "config"  # in the log directory
NAME = re.compile(r"\d{17}-\w+\.cfg")  # the local time to the millisecond, and the occasion
VARIABLE = "MARQ_SNAPSHOTS"  # gives a gateway the Snapshots of its server


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of a server: where it writes them, and the one that it starts from."""

    folder: str
    properties: dict[str, str]  # of config.properties and the command line: each file has them
    restored: str | None = None  # `model_snapshot` of the newest file, if the start found one

    def environment(self) -> dict[str, str]:
        """The same as an environment variable, for the process that writes them."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Snapshots | None":
        """None in a server that writes no snapshots."""
        return cls(**json.loads(environ[VARIABLE])) if VARIABLE in environ else None


@dataclass(frozen=True)
class Found:
    """A snapshot, and the file whose settings count at a start from it."""

    path: Path
    config: Path
    models: str  # its `model_snapshot`

    @property
    def notice(self) -> str:
        """Says what the start uses, and how to start without it."""
        unread = f", in the place of {properties.DEFAULT_FILE}"
        place = unread if self.config == self.path and properties.DEFAULT_FILE.is_file() else ""
        return f"The snapshot {self.path} is used{place}. --ncs starts without."

    @property
    def state(self) -> dict[str, dict[str, dict[str, object]]]:
        """The settings of its model versions, by name and version."""
        found: dict[str, dict[str, dict[str, object]]] = json.loads(self.models)["models"]
        return found


def newest(folder: Path) -> Found | None:
    """The newest snapshot; files that are not snapshots do not count.

    Its settings count, as in TorchServe. If they came from ./config.properties, that file's settings do: the
    user may have changed it since.
    """
    for path in reversed(files(folder)):
        try:
            lines = properties.read(path)
            models = lines[SNAPSHOT].value
            list(snapshot.versions(models))
        except (properties.SettingsError, KeyError, ValueError):
            continue
        return Found(path, _config(path, lines), models)
    return None


def files(folder: Path) -> list[Path]:
    """The snapshots of a folder, from the oldest to the newest."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if NAME.fullmatch(path.name))


def written_properties(config: Path | None, given: Mapping[str, str | None]) -> dict[str, str]:
    """The keys of a snapshot but its models: those of a config file, and others that are given."""
    lines = properties.read(config) if config else {}
    found = {key: line.value for key, line in lines.items() if key != SNAPSHOT}
    found |= {key: value for key, value in given.items() if value is not None}
    return found | ({SNAPSHOT_FILE: str(config)} if config else {})


def _config(path: Path, lines: Mapping[str, properties.Line]) -> Path:
    origin, usual = lines.get(SNAPSHOT_FILE), properties.DEFAULT_FILE
    is_usual = origin is not None and Path(origin.value).resolve() == usual.resolve()
    return usual if is_usual and usual.is_file() else path
