"""Tracebacks as the author of a handler reads them: without the frames of marq that called the handler."""

import sys
import traceback
from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_HERE / name}/" for name in ("archive", "gateway", "marq", "workers"))
_LOADER = str(_HERE / "ts/model_loader.py")
_PYTHONS = tuple(
    spec.origin for name in ("contextlib", "runpy", "importlib") if (spec := find_spec(name)) and spec.origin
)


def of(error: BaseException) -> str:
    """The traceback of an error and of those that caused it, without a final newline."""
    shown = traceback.TracebackException.from_exception(error)
    _shorten(shown)
    return "".join(shown.format()).rstrip("\n")


def innermost(error: BaseException) -> BaseException:
    """The first error of the chain, which the others were raised for."""
    while (cause := error.__cause__) is not None:
        error = cause
    return error


def _shorten(shown: traceback.TracebackException | None) -> None:
    """Frames of ts stay: handlers inherit them."""
    while shown is not None:
        shown.stack[:] = [frame for frame in shown.stack if not _is_ours(frame.filename)]
        shown = shown.__cause__ or shown.__context__


def _is_ours(file: str) -> bool:
    return file.startswith(("<frozen ", *_OURS)) or file == _LOADER or file in _PYTHONS


def show_uncaught(kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """`sys.excepthook` of processes that load handlers."""
    sys.stderr.write(f"{of(error)}\n" if not issubclass(kind, KeyboardInterrupt) else "KeyboardInterrupt\n")
