"""The torch-model-archiver release whose surface this package offers."""

from archive.packing.writer import ARCHIVER_VERSION

__version__ = ARCHIVER_VERSION
