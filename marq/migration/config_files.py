"""config.properties, read by the server's own parser."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from marq.migration.findings import Finding, Verdict
from marq.migration.words import KEYS
from marq.settings import loading, properties
from marq.settings.retention import SETTINGS_PREFIX

OF_THE_MACHINE = (SETTINGS_PREFIX, "TS_", "LOG_LOCATION", "METRICS_LOCATION")


def look(file: Path) -> Iterator[Finding]:
    """A finding for each key, with the text that a start with this file logs or fails with."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(OF_THE_MACHINE)}
    try:
        lines = properties.read(file, environ)
    except properties.SettingsError as error:
        yield _placed(file, Verdict.CHANGE, str(error))
        return
    if not KEYS & lines.keys() and not file.name.startswith("config"):
        return  # of another program
    messages = [*_messages(file, environ)]
    yield from messages
    judged = {finding.line for finding in messages}
    for key, line in lines.items():
        number = int(line.where.rpartition(":")[2])
        if number not in judged and not line.is_quoted:
            yield Finding(file, number, Verdict.RUNS, key)


def _messages(file: Path, environ: dict[str, str]) -> Iterator[Finding]:
    given = {"state_dir": file.parent}  # so that nothing is said about the home directory of this user
    try:
        resolved = loading.resolve(file, given, environ)
    except properties.SettingsError as error:
        for problem in str(error).split("\n"):
            yield _placed(file, Verdict.CHANGE, problem)
        warnings = error.warnings
    else:
        warnings = (*resolved.without_effect, *resolved.notices)
    for message in warnings:
        yield _placed(file, Verdict.IGNORED, message)


def _placed(file: Path, verdict: Verdict, message: str) -> Finding:
    """The finding of a message that starts with file:line, or of one about the whole file."""
    found = re.match(rf"{re.escape(str(file))}:(\d+): ", message)
    if not found:
        return Finding(file, 0, verdict, message)
    return Finding(file, int(found[1]), verdict, message[found.end() :])
