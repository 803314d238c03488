"""The torch-workflow-archiver release whose surface this package offers."""

from archive.packing.workflow import WORKFLOW_ARCHIVER_VERSION

__version__ = WORKFLOW_ARCHIVER_VERSION
