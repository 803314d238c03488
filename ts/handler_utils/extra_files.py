"""The tar file of source files that `system.extraFiles` of a model-config.yaml names."""

import contextlib
import fcntl
import logging
import os
import tarfile
from pathlib import Path

logger = logging.getLogger(__name__)


def unpack_extra_files(model_dir, name):
    """Unpacks a tar file of the archive into the model directory, unless that was done already.

    Directories are kept. Nothing is read or written outside of the model directory.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"system.extraFiles is the name of a file in the model archive, not {name}")
    source = model_dir / name
    if not source.is_file():
        raise FileNotFoundError(f"system.extraFiles names {name}, which is not in the model archive")
    facts = source.stat()
    stamp = f"{facts.st_size} {facts.st_mtime_ns}"
    mark = model_dir / f".{source.name}.unpacked"
    if mark.is_file() and mark.read_text() == stamp:
        return
    logger.info("unpacking %s", name)
    with tarfile.open(source) as tar:
        members = tar.getmembers()
        # The filter alone does not hold: in some releases of Python chains of links lead out.
        if link := next((each.name for each in members if not (each.isreg() or each.isdir())), None):
            raise ValueError(f"{name} holds {link}, which is neither a file nor a directory")
        tar.extractall(model_dir, members, filter="data")
    mark.write_text(stamp)


@contextlib.contextmanager
def alone_in(directory):
    """Other processes of this host that prepare the same directory wait."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
