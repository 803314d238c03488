"""Reads config.properties: Java's syntax, `$$NAME$$`, and where each key stands."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import javaproperties

from marq.errors import MarqError

FILE_VARIABLE = "TS_CONFIG_FILE"
TRIPLE_QUOTES = ("'''", '"""')
DEFAULT_FILE = Path("config.properties")


class SettingsError(MarqError):
    """Raised for a setting that cannot be read; names it, its source and the allowed values.

    `warnings` are about other lines: they stop nothing.
    """

    def __init__(self, message: str, warnings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.warnings = tuple(warnings)


@dataclass(frozen=True)
class Line:
    """One key of a file. `where` is file:line; `is_quoted`: it stands between triple quotes."""

    value: str
    where: str
    is_quoted: bool = False


def discover(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file to use: `TS_CONFIG_FILE`, the given one, ./config.properties, or none.

    Raises SettingsError.
    """
    chosen = Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else given
    if chosen and not chosen.is_file():
        raise SettingsError(f"--ts-config file not found: {chosen}")
    return chosen or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)


def ignored(given: Path | None, environ: Mapping[str, str] = os.environ) -> list[str]:
    """A notice if `TS_CONFIG_FILE` names another file than `--ts-config`, as it comes first."""
    chosen = environ.get(FILE_VARIABLE)
    if not chosen or given is None or Path(chosen) == given:
        return []
    return [f"--ts-config {given} has no effect: {FILE_VARIABLE} names {chosen}."]


def read(path: Path, environ: Mapping[str, str] = os.environ) -> dict[str, Line]:
    """The keys of a file as they are named there; a key's last line counts. Raises SettingsError.

    The file is UTF-8, with or without a byte-order mark, or Latin-1 as Java reads it. People put comments
    between triple quotes: to TorchServe these are keys like others, most of them unknown.
    """
    lines: dict[str, Line] = {}
    number, is_quoted = 1, False
    try:
        for element in javaproperties.parse(_text(path)):
            if isinstance(element, javaproperties.KeyValue):
                quotes = sum(element.source.count(mark) for mark in TRIPLE_QUOTES)
                where = f"{path}:{number}"
                value = _expand(element.value.strip(), where, environ)
                lines[element.key] = Line(value, where, is_quoted or quotes > 0)
                is_quoted ^= quotes % 2 == 1
            number += element.source.count("\n")
    except (OSError, ValueError) as error:
        raise SettingsError(f"--ts-config file cannot be read: {path}: {error}") from error
    return lines


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:  # UTF-16, most probably
            raise
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n")


def _expand(value: str, where: str, environ: Mapping[str, str]) -> str:
    """Puts variables in the place of `$$NAME$$`."""
    parts = value.split("$$")
    for i in range(1, len(parts) - 1, 2):
        if parts[i] not in environ:
            raise SettingsError(f"{where}: Invalid Environment Variable {parts[i]}")
        parts[i] = environ[parts[i]]
    return "".join(parts) if len(parts) % 2 else value
