"""Log files: TorchServe's names and line formats, or JSON; rotated so that many processes can share one.

The process that writes first when a file is due moves it away. The others notice at their next line, because
each checks that its file is still the one with that name.
"""

import contextlib
import fcntl
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

from marq.console import ConsoleHandler

FORMAT_VARIABLE = "MARQ_LOG_FORMAT"
SERVER_LOG, MODEL_LOG, ACCESS_LOG = "ts_log.log", "model_log.log", "access_log.log"
LARGEST_BYTES = 100 * 1024 * 1024
KEPT = 5
LOOK_EVERY_S = 1.0
RETRY_S = 1.0  # between two attempts to write a file that could not be written
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


class SharedText:
    """A file that several processes append lines to, and rotate. Safe for one thread at a time.

    Nothing here raises. While the file cannot be written, its lines are lost, and stderr has one line about
    that; a directory that was removed is made again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._looked = self._retry_at = 0.0
        self._failure = ""
        self._lost = 0
        self.write("")

    def write(self, text: str) -> None:
        """Appends whole lines."""
        now = time.monotonic()
        if self._failure and now < self._retry_at:
            self._lost += text.count("\n")
            return
        try:
            descriptor = self._current(now)
            data = text.encode("utf-8", "replace")
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError as error:
            self._fail(error, text.count("\n"), now)
        else:
            if self._failure and text:
                _complain(f"{self._path} is written again; {self._lost} lines are missing there")
                self._failure, self._lost = "", 0

    def close(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _current(self, now: float) -> int:
        """The descriptor of the file that has the name now. Raises OSError."""
        if self._descriptor is not None and now - self._looked > LOOK_EVERY_S:
            self._looked = now
            with contextlib.suppress(OSError):
                if is_due(os.fstat(self._descriptor), time.time()):
                    rotate(self._path, self._descriptor)
        if self._descriptor is not None and not self._has_name(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        return self._descriptor

    def _has_name(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def _fail(self, error: OSError, lines: int, now: float) -> None:
        self.close()
        self._lost += lines
        self._retry_at = now + RETRY_S
        if not self._failure:
            self._failure = failure = error.strerror or str(error)
            _complain(f"{self._path} cannot be written, its lines are lost until it can: {failure}")


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class SharedFile(logging.Handler):
    """Log records as lines of a SharedText."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._text = SharedText(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # wrong arguments of a record
            self.handleError(record)
        else:
            self._text.write(f"{line}\n")

    def close(self) -> None:
        self._text.close()
        super().close()


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `process` is the role of the process, extra fields are kept."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
            + f".{int(record.msecs):03d}",
            "level": _level(record),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """TorchServe's line format; `process` is the role of the process."""

    default_time_format, default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s,%03d"

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s [%(log4j_level)-5s] {process} %(name)s - %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.log4j_level = _level(record)
        return super().format(record)


_USUAL = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "log4j_level"))


def _level(record: logging.LogRecord) -> str:
    """The name of a level as TorchServe's logs have it."""
    return "WARN" if record.levelno == logging.WARNING else record.levelname


def formatter(process: str) -> logging.Formatter:
    """TorchServe's line format, or JSON if `MARQ_LOG_FORMAT` says so."""
    return (JsonFormatter if os.environ.get(FORMAT_VARIABLE) == "json" else TextFormatter)(process)


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
