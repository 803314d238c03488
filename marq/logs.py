"""Log files: TorchServe's names and line formats, or JSON; rotated so that many processes can share one.

The process that writes first when a file is due moves it away. The others notice at their next line, because
each handler checks that its file is still the one with that name.
"""

import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from marq.console import ConsoleHandler

FORMAT_VARIABLE = "MARQ_LOG_FORMAT"
SERVER_LOG, MODEL_LOG, ACCESS_LOG = "ts_log.log", "model_log.log", "access_log.log"
LARGEST_BYTES = 100 * 1024 * 1024
KEPT = 5
LOOK_EVERY_S = 1.0
SETTLE_S = 2.0  # within which every process has noticed that its file was moved away
_PACKING = threading.Lock()


def is_due(status: os.stat_result, now: float) -> bool:
    """Whether a file is as large as it may become, or was last written on another day."""
    written, today = time.localtime(status.st_mtime), time.localtime(now)
    return status.st_size > 0 and (
        status.st_size >= LARGEST_BYTES or written[:3] < today[:3]  # year, month, day
    )


def rotate(path: Path, descriptor: int) -> bool:
    """Moves a due file away and packs it, unless another process has just done so; whether it is done."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        ours, current = os.fstat(descriptor), path.stat()
        if (ours.st_ino, ours.st_dev) != (current.st_ino, current.st_dev) or not is_due(ours, time.time()):
            return False
        moved = _free_name(path, ours.st_mtime)
        path.rename(moved)
    except FileNotFoundError:
        return False
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    threading.Thread(target=_pack, args=(path, moved), daemon=True).start()
    return True


def _free_name(path: Path, written: float) -> Path:
    """`model_log.log.20-Nov.log`; numbered where that day has one already."""
    day = path.with_name(f"{path.name}.{time.strftime('%d-%b', time.localtime(written))}.log")
    names = [day, *(day.with_suffix(f".{n}.log") for n in range(1, 1000))]
    return next(name for name in names if not name.exists() and not Path(f"{name}.gz").exists())


def _pack(path: Path, moved: Path) -> None:
    """Compresses a file that has no writer any more, and deletes the oldest ones."""
    import gzip  # a server's watcher, which has to be small, hardly ever needs them
    import shutil

    time.sleep(SETTLE_S)
    packed, part = Path(f"{moved}.gz"), Path(f"{moved}.gz.part")
    with _PACKING, contextlib.suppress(OSError):
        with moved.open("rb") as plain, gzip.open(part, "wb", compresslevel=6) as target:
            shutil.copyfileobj(plain, target)
        os.utime(part, (moved.stat().st_mtime,) * 2)
        part.rename(packed)
        moved.unlink()
        old = sorted(path.parent.glob(f"{path.name}.*.gz"), key=lambda each: each.stat().st_mtime)
        for each in old[:-KEPT]:
            each.unlink()


class SharedFile(logging.handlers.WatchedFileHandler):
    """A log file that several processes append to and rotate."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, encoding="utf-8", errors="replace")
        self._path, self._looked = path, 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Raises nothing: a line that cannot be written is reported on stderr, as logging does."""
        if time.monotonic() - self._looked > LOOK_EVERY_S:
            self._looked = time.monotonic()
            with contextlib.suppress(OSError):
                self._rotate()
        super().emit(record)

    def _rotate(self) -> None:
        self.reopenIfNeeded()
        if self.stream and is_due(os.fstat(self.stream.fileno()), time.time()):
            rotate(self._path, self.stream.fileno())


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `process` is the role of the process, extra fields are kept."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
            + f".{int(record.msecs):03d}",
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


_USUAL = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"))


def formatter(process: str) -> logging.Formatter:
    """TorchServe's line format, or JSON if `MARQ_LOG_FORMAT` says so."""
    logging.addLevelName(logging.WARNING, "WARN")
    if os.environ.get(FORMAT_VARIABLE) == "json":
        return JsonFormatter(process)
    made = logging.Formatter(f"%(asctime)s [%(levelname)-5s] {process} %(name)s - %(message)s")
    made.default_time_format, made.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s,%03d"
    return made


def configure(process: str, directory: Path | None) -> None:
    """Sends this process's log to stderr, and to `ts_log.log` in a directory if one is given."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if directory:
        handlers.append(SharedFile(directory / SERVER_LOG))
    for handler in handlers:
        handler.setFormatter(formatter(process))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)


def model_logger(path: Path, on_console: bool = False) -> logging.Logger:
    """The logger of replicas' output: their stdout at INFO, their stderr at WARNING.

    It writes to the file, and to stdout as well if `on_console`.
    """
    logger = logging.getLogger("MODEL_LOG")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers = [SharedFile(path), *([ConsoleHandler()] if on_console else [])]
    for handler in handlers:
        handler.setFormatter(formatter("model"))
        logger.addHandler(handler)
    return logger
