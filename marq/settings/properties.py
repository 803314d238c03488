"""Reads config.properties: Java's syntax, `$$NAME$$`, and where each key stands."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import javaproperties

from marq.errors import MarqError

FILE_VARIABLE = "TS_CONFIG_FILE"
DEFAULT_FILE = Path("config.properties")


class SettingsError(MarqError):
    """Raised for a setting that cannot be read; names it, its source and the allowed values."""


@dataclass(frozen=True)
class Line:
    """One key of a file. `where` is file:line."""

    value: str
    where: str


def discover(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file to use: `TS_CONFIG_FILE`, the given one, ./config.properties, or none.

    Raises SettingsError.
    """
    chosen = Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else given
    if chosen and not chosen.is_file():
        raise SettingsError(f"--ts-config file not found: {chosen}")
    return chosen or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)


def read(path: Path, environ: Mapping[str, str] = os.environ) -> dict[str, Line]:
    """The keys of a file as they are named there; a key's last line counts. Raises SettingsError."""
    lines: dict[str, Line] = {}
    number = 1
    try:
        for element in javaproperties.parse(path.read_text(encoding="utf-8")):
            if isinstance(element, javaproperties.KeyValue):
                where = f"{path}:{number}"
                lines[element.key] = Line(_expand(element.value.strip(), where, environ), where)
            number += element.source.count("\n")
    except (OSError, ValueError) as error:
        raise SettingsError(f"--ts-config file cannot be read: {path}: {error}") from error
    return lines


def _expand(value: str, where: str, environ: Mapping[str, str]) -> str:
    """Puts variables in the place of `$$NAME$$`."""
    parts = value.split("$$")
    for i in range(1, len(parts) - 1, 2):
        if parts[i] not in environ:
            raise SettingsError(f"{where}: Invalid Environment Variable {parts[i]}")
        parts[i] = environ[parts[i]]
    return "".join(parts) if len(parts) % 2 else value
