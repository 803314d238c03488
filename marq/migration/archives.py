"""Model and workflow archives, read by the server's own reader."""

from collections.abc import Iterator
from pathlib import Path

from archive import reader
from archive.errors import ArchiveError
from archive.workflow import describe_workflow
from marq.migration import model_configs
from marq.migration.findings import Finding, Verdict


def look(file: Path) -> Iterator[Finding]:
    """Whether a server could register the archive, and the keys of its model-config.yaml without effect."""
    try:
        description = reader.describe(file)
    except ArchiveError as error:
        yield Finding(file, 0, Verdict.CHANGE, f"{error} {error.reason}".strip())
        return
    manifest = description.manifest
    for judgement in model_configs.judge(description.config) if description.config else ():
        yield Finding(file, 0, judgement.verdict, judgement.text)
    if manifest.runtime == "LSP":
        text = "its handler is written in C++ (runtime LSP): marq runs Python handlers only."
        yield Finding(file, 0, Verdict.CHANGE, text)
        return
    name = manifest.model_name or file.stem
    yield Finding(
        file,
        0,
        Verdict.RUNS,
        f"model {name} {manifest.model_version}, handler {manifest.handler or '-'}",
    )


def look_at_workflow(file: Path) -> Iterator[Finding]:
    """Whether a server could read the workflow archive."""
    try:
        found = describe_workflow(file)
    except ArchiveError as error:
        yield Finding(file, 0, Verdict.CHANGE, f"{error} {error.reason}".strip())
    else:
        yield Finding(file, 0, Verdict.RUNS, f"workflow {found.name}, handler {found.handler}")
