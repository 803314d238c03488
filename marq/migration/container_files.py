"""Dockerfiles, compose files and Kubernetes manifests: what names TorchServe in them, line by line."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from marq.migration.findings import Finding, Verdict
from marq.settings.torchserve_keys import TORCHSERVE_PREFIX

_IMAGE = r"\b(?:pytorch|kserve)/torchserve[\w./-]*(?::[\w.-]+)?"


@dataclass(frozen=True)
class _Rule:
    """The first rule whose pattern is found in a line judges it."""

    pattern: re.Pattern[str]
    verdict: Verdict
    text: str


def _rule(pattern: str, verdict: Verdict, text: str) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), verdict, text)


RULES = (
    _rule(
        rf"^\s*(?:FROM\b.*|-?\s*image:.*){_IMAGE}",
        Verdict.CHANGE,
        "use an image of marq (deploy/Dockerfile), which has the same user, folders and commands.",
    ),
    _rule(
        r"pip3?\s+install\b.*\b(?:torchserve|torch-(?:model|workflow)-archiver)\b",
        Verdict.CHANGE,
        "install marq instead: it brings torchserve, torch-model-archiver and torch-workflow-archiver.",
    ),
    _rule(
        r"\bprotocolVersion:\s*[\"']?grpc|(?:name|appProtocol):\s*[\"']?(?:grpc|h2c)",
        Verdict.CHANGE,
        "marq does not serve gRPC; use the protocol v1 or v2 over HTTP.",
    ),
    _rule(
        r"--(?:log-config|cpp-log-config|plugins-path|ppath|workflow-store)\b",
        Verdict.IGNORED,
        "the flag of log4j, plugins or workflows has no effect; the rest of the line runs.",
    ),
    _rule(r"\b(?:openjdk|default-jre|default-jdk|JAVA_HOME)\b", Verdict.IGNORED, "marq does not need Java."),
    _rule(r"(?<!\d)707[01](?!\d)", Verdict.IGNORED, "the ports of gRPC stay closed."),
    _rule(
        rf"(?-i:\b{TORCHSERVE_PREFIX}(?!CONFIG_FILE)[A-Z_]+\b)",
        Verdict.RUNS,
        "variables of TorchServe count where config.properties has enable_envvars_config=true, as there.",
    ),
    _rule(r"\btorch(?:serve|-model-archiver)\b", Verdict.RUNS, "the command is the same."),
)


def look(file: Path) -> Iterator[Finding]:
    """A finding for each line that has to do with TorchServe."""
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        yield Finding(file, 0, Verdict.CHANGE, f"cannot be read: {error}")
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        rule = next((rule for rule in RULES if rule.pattern.search(line)), None)
        if rule:
            yield Finding(file, number, rule.verdict, rule.text)
