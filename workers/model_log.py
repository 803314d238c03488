"""The log of what models print: handlers, and the installation of their dependencies."""

import logging
import logging.handlers
from pathlib import Path


def model_log(path: Path) -> logging.Logger:
    """The logger that appends to the file; several processes may do so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("marq.model")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = logging.handlers.WatchedFileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(message)s"))
    logger.addHandler(handler)
    return logger
