"""The import surface of torch-workflow-archiver on top of `archive.packing.workflow`."""

from workflow_archiver.version import __version__

__all__ = ["__version__"]
