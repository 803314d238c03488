"""Compose files, and manifests of Kubernetes, Helm and KServe, read as YAML with the line of each value."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from marq.migration import model_configs, words
from marq.migration.findings import Finding, Judgement, Verdict

_TEMPLATE = re.compile(r"\{\{.*?\}\}")  # Helm's; their values are not known
_COMMANDS = frozenset(("command", "args", "entrypoint"))
_VARIABLES = frozenset(("env", "environment"))
_PACKAGES = frozenset(("dependencies", "pip"))  # of a conda environment
WORKFLOW = "the specification of a workflow"


def look(file: Path) -> Iterator[Finding]:
    """A finding for each line that has to do with TorchServe."""
    text = _TEMPLATE.sub(lambda found: "x" * len(found[0]), file.read_text(errors="replace"))
    try:
        documents = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node]
    except yaml.YAMLError as error:
        if words.of_image(text) or "torchserve" in text:
            yield Finding(file, 0, Verdict.CHANGE, f"cannot be read as YAML, look at it by hand: {error}")
        return
    for document in documents:
        keys = _keys(document)
        if {"dag", "models"} <= keys.keys():
            yield Finding(file, 0, Verdict.RUNS, WORKFLOW)
        elif model_configs.is_one(keys):
            yield from model_configs.look(file)
        else:
            placed = _judge("", document, bool(_kserve(keys)))
            yield from (Finding(file, line, each.verdict, each.text) for line, each in placed)


def _judge(key: str, node: yaml.Node, is_kserve: bool) -> Iterator[words.Placed]:
    """The judgements on a value and all below it; `key` is the one that it stands under."""
    if isinstance(node, yaml.ScalarNode):
        yield from ((_line(node), found) for found in _of_scalar(key, node.value, is_kserve) if found)
        if key in _COMMANDS:
            yield from words.of_container_command([(_line(node), node.value)])
    elif key in _COMMANDS and isinstance(node, yaml.SequenceNode):
        yield from words.of_container_command([(_line(each), str(each.value)) for each in node.value])
    elif key in _VARIABLES:
        yield from ((line, found) for line, name in _names(node) if (found := words.of_variable(name)))
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _judge(key, each, is_kserve)
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if is_kserve and name.value == "pytorch" and "image" not in _keys(value):
                yield _line(name), words.OF_KSERVE
            below = f"ports:{name.value}" if key == "ports" else str(name.value)
            yield from _judge(below, value, is_kserve)


def _of_scalar(key: str, value: str, is_kserve: bool) -> Iterator[Judgement | None]:
    if key == "protocolVersion":
        yield Judgement(Verdict.RUNS, f"protocolVersion {value}")
    elif is_kserve and key == "runtime" and "torchserve" in value:
        yield words.OF_KSERVE
    elif key in _PACKAGES:
        yield words.of_package(value)
    else:
        yield words.of_image(value)


def _names(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """The variables of `env` or `environment`: a map, a list of NAME=value, or a list of name and value."""
    if isinstance(node, yaml.MappingNode):
        yield from ((_line(name), str(name.value)) for name, _ in node.value)
        return
    for each in node.value if isinstance(node, yaml.SequenceNode) else ():
        name = _keys(each).get("name") if isinstance(each, yaml.MappingNode) else each
        if isinstance(name, yaml.ScalarNode):
            yield _line(name), name.value.partition("=")[0]


def _keys(node: yaml.Node) -> dict[str, yaml.Node]:
    return (
        {str(name.value): value for name, value in node.value} if isinstance(node, yaml.MappingNode) else {}
    )


def _kserve(keys: dict[str, yaml.Node]) -> bool:
    version = keys.get("apiVersion")
    return version is not None and "serving." in str(version.value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
