"""Writes workflow archives (`.war`) as `torch-workflow-archiver` does."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from archive.errors import PackagingError
from archive.packing.collect import Files, single_file
from archive.packing.containers import Contents, created_on, write_zip
from archive.packing.output import check_folder, check_free, check_name, published

WORKFLOW_MANIFEST_NAME = "WAR-INF/MANIFEST.json"
WORKFLOW_ARCHIVER_VERSION = "0.2.15"  # of the torch-workflow-archiver whose archives these are like


@dataclass(frozen=True)
class WorkflowSpec:
    """The options of `torch-workflow-archiver`. All paths but `export_path` are of single files."""

    workflow_name: str
    spec_file: str
    handler: str
    extra_files: tuple[str, ...] = ()
    export_path: Path = Path()
    force: bool = False


def write(spec: WorkflowSpec, manifest: bytes | None = None) -> Path:
    """Writes the archive and returns its path. Raises PackagingError; the archive is complete or not there.

    The manifest is `manifest_json(spec)` unless it is given.
    """
    check_name("workflow", spec.workflow_name)
    check_folder(spec.export_path, must_exist=True)
    files = plan(spec)
    target = spec.export_path / file_name(spec.workflow_name)
    check_free("workflow", target, spec.force)
    content = manifest_json(spec) if manifest is None else manifest
    with published("workflow", target) as part:
        write_zip(zipfile.ZIP_DEFLATED)(
            part, Contents(spec.workflow_name, files, WORKFLOW_MANIFEST_NAME, content)
        )
    return target


def plan(spec: WorkflowSpec) -> Files:
    """The members of the archive: each member's name and source. Raises PackagingError."""
    if not spec.handler:
        raise PackagingError("The handler is missing; give the workflow's Python file with --handler.")
    files: Files = {}
    for item in (spec.spec_file, spec.handler, *spec.extra_files):
        if item.strip():
            files |= _file(Path(item.strip()))
    return dict(sorted(files.items()))


def file_name(workflow_name: str) -> str:
    """The archive's name in the export directory."""
    return f"{workflow_name}.war"


def manifest_json(spec: WorkflowSpec) -> bytes:
    """The archive's manifest."""
    content = {
        "createdOn": created_on(),
        "workflow": {
            "workflowName": spec.workflow_name,
            "specFile": Path(spec.spec_file).name,
            "handler": Path(spec.handler).name,
        },
        "archiverVersion": WORKFLOW_ARCHIVER_VERSION,
    }
    return json.dumps(content, indent=2).encode()


def _file(path: Path) -> Files:
    if path.is_dir():
        raise PackagingError(f"{path} is a directory; a workflow archive is made of single files.")
    return single_file(path)
