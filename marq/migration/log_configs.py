"""Custom configurations of log4j."""

from collections.abc import Iterator
from pathlib import Path

from marq.migration.findings import Finding, Verdict


def look(file: Path) -> Iterator[Finding]:
    text = (
        "marq does not use log4j. log_format sets text or JSON, LOG_LOCATION the folder; "
        "docs/operations.md describes the log files."
    )
    yield Finding(file, 0, Verdict.IGNORED, text)
