"""`torch-workflow-archiver`: from options to an archive."""

import argparse
import logging
import sys
from pathlib import Path

from archive.errors import PackagingError
from archive.packing import workflow
from workflow_archiver.arg_parser import ArgParser
from workflow_archiver.workflow_archiver_error import WorkflowArchiverError

log = logging.getLogger(__name__)


def generate_workflow_archive() -> None:
    """Writes the archive of the command line. The exit code is 1 if that fails, 2 for wrong usage."""
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s - %(message)s")
    args = ArgParser.workflow_archiver_args_parser().parse_args()
    try:
        package_workflow(args)
    except WorkflowArchiverError as error:
        log.error("%s", error)
        sys.exit(1)


def package_workflow(args: argparse.Namespace, manifest: str | None = None) -> None:
    """Writes the archive, with a manifest of its own if none is given. Raises WorkflowArchiverError."""
    try:
        workflow.write(_spec(args), None if manifest is None else manifest.encode())
    except PackagingError as error:
        raise WorkflowArchiverError(str(error)) from error.__cause__


def _spec(args: argparse.Namespace) -> workflow.WorkflowSpec:
    return workflow.WorkflowSpec(
        workflow_name=args.workflow_name,
        spec_file=args.spec_file,
        handler=args.handler or "",
        extra_files=tuple((args.extra_files or "").split(",")),
        export_path=Path(args.export_path),
        force=args.force,
    )
