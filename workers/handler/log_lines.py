"""The log lines of a replica: printed on its stdout, read by its pool, which gives each line its level."""

import logging
from types import TracebackType

from workers.handler import traces

_MARKS = {"\x01E ": logging.ERROR, "\x01W ": logging.WARNING}

_Error = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TraceFormatter(logging.Formatter):
    """Shows exceptions without marq's own frames."""

    def formatException(self, ei: _Error) -> str:  # noqa: N802 - logging's name
        return traces.of(ei[1]) if ei[1] else ""


class MarkedFormatter(TraceFormatter):
    """Begins each line of a warning or an error with a mark, for `read`."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        mark = next((mark for mark, level in _MARKS.items() if record.levelno >= level), "")
        return mark + text.replace("\n", f"\n{mark}") if mark else text


def read(line: str, level: int) -> tuple[str, int]:
    """A line without its mark, and its level: `level` where it has none.

    A handler's unfinished line may come before the mark.
    """
    if "\x01" in line:
        for mark, marked in _MARKS.items():
            if mark in line:
                return line.replace(mark, "", 1), marked
    return line, level
