"""Reads workflow archives (`.war`): the manifest, the specification, the functions of the handler file."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from archive.bounded_yaml import load_map
from archive.errors import ArchiveError, InvalidArchive, UnsafeArchive
from archive.formats.detect import members
from archive.formats.limits import DEFAULT_LIMITS, Limits
from archive.formats.names import safe_name
from archive.shadows import check_modules

MANIFEST_NAME = "WAR-INF/MANIFEST.json"


@dataclass(frozen=True)
class WorkflowArchive:
    """The description of a workflow archive, read without unpacking it.

    `functions` has the names that the handler file defines; None where only importing it would say.
    """

    path: Path
    name: str
    handler: str
    spec: dict[object, object]
    functions: frozenset[str] | None


def describe_workflow(path: Path, limits: Limits = DEFAULT_LIMITS) -> WorkflowArchive:
    """Raises ArchiveNotFound, InvalidArchive or UnsafeArchive."""
    manifest, names = _contents(path, limits, MANIFEST_NAME)
    check_modules(path.name, names)
    if manifest is None:
        raise InvalidArchive(
            "Missing Workflow entry in manifest file.", f"{path.name} has no {MANIFEST_NAME}."
        )
    name, spec_file, handler = _manifest(manifest)
    spec, source = (_file(path, limits, file) for file in (spec_file, handler))
    return WorkflowArchive(path, name, handler, _spec(spec, spec_file), _names(source))


def _manifest(data: bytes) -> tuple[str, str, str]:
    """The workflow's name, and the names of the specification and of the handler file."""
    manifest = _object(data)
    workflow = manifest.get("workflow")
    if not isinstance(workflow, dict):
        raise InvalidArchive("Missing Workflow entry in manifest file.")
    if not workflow.get("workflowName"):
        raise InvalidArchive("Workflow name is not defined.")
    if not manifest.get("archiverVersion"):
        raise InvalidArchive("Workflow archive version is not defined.")
    if not manifest.get("createdOn"):
        raise InvalidArchive("Workflow archive createdOn is not defined.")
    return str(workflow["workflowName"]), _named(workflow, "specFile"), _named(workflow, "handler")


def _object(data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidArchive("Failed to parse signature.json.", f"{MANIFEST_NAME}: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArchive("Failed to parse signature.json.", f"{MANIFEST_NAME} must be a JSON object.")
    return value


def _named(workflow: dict[str, object], key: str) -> str:
    name = workflow.get(key)
    try:
        if isinstance(name, str) and (checked := safe_name(name)):
            return checked
    except ArchiveError as error:
        raise type(error)(f"{key!r} in {MANIFEST_NAME} does not name a file of it: {error}") from error
    raise InvalidArchive(f"{key!r} in {MANIFEST_NAME} must name a file of the archive.")


def _contents(path: Path, limits: Limits, name: str) -> tuple[bytes | None, list[str]]:
    """The content of one small file, None if it is not there, and the names of all files."""
    data: bytes | None = None
    names: list[str] = []
    for member in members(path, limits):
        if member.kind == "file":
            names.append(member.name)
            if member.name == name:
                data = member.read()
    return data, names


def _file(path: Path, limits: Limits, name: str) -> bytes:
    data, _ = _contents(path, limits, name)
    if data is None:
        raise InvalidArchive(
            f"The manifest of {path.name} names the file {name!r}, which is not in the archive."
        )
    return data


def _spec(text: bytes, name: str) -> dict[object, object]:
    try:
        return load_map(text, name)
    except UnsafeArchive:
        raise
    except InvalidArchive as error:
        raise InvalidArchive("Failed to parse yaml.", str(error)) from error


def _names(source: bytes) -> frozenset[str] | None:
    """The names that a Python file defines at its top level; None where only running it would say."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # loading it reports the reason
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif not isinstance(node, ast.Expr):
            return None
    return None if "*" in names else frozenset(names)
