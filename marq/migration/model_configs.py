"""Keys of model-config.yaml, in archives and beside them."""

from collections.abc import Collection, Iterator
from pathlib import Path

from archive.errors import ArchiveError
from archive.model_config import ModelConfig
from marq.migration.findings import Finding, Judgement, Verdict
from marq.registry.config.unused_keys import unused_keys
from marq.registry.config.wrong_keys import wrong_keys

_TELLING = frozenset(("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout"))


def is_one(keys: Collection[str]) -> bool:
    """Whether a YAML with these keys is a model-config.yaml."""
    return bool(_TELLING & set(keys)) and not {"apiVersion", "services"} & set(keys)


def look(file: Path) -> Iterator[Finding]:
    """A finding for each key without an effect, and one for the rest."""
    text = file.read_text(errors="replace")
    try:
        config = ModelConfig.parse(text, file.name)
    except ArchiveError as error:
        yield Finding(file, 0, Verdict.CHANGE, str(error))
        return
    found = list(judge(config))
    yield from (Finding(file, _line(text, each.text), each.verdict, each.text) for each in found)
    if not found:
        yield Finding(file, 0, Verdict.RUNS, "the keys of a model")


def judge(config: ModelConfig) -> Iterator[Judgement]:
    """The warnings and errors that a server would log for a model with this file."""
    for fault in wrong_keys(config):
        yield Judgement(Verdict.CHANGE, fault)
    for warning in config.warnings:
        yield Judgement(Verdict.IGNORED, warning)
    for key, text in unused_keys(config):
        yield Judgement(Verdict.IGNORED, f"{key}: {text}")


def _line(text: str, message: str) -> int:
    """The line of the key that a message begins with; 0 if it stands nowhere by itself."""
    key = message.partition(" ")[0].rstrip(":,").rpartition(".")[2]
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(f"{key}:")]
    return lines[0] if lines else 0
