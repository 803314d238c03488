"""Rows whose deadline has passed before they could be started."""

from collections.abc import Sequence

from marq.queue.entries import Request


def split_late(batch: Sequence[Request], now_ms: int) -> tuple[list[Request], list[Request]]:
    """The rows that may still be started, and those whose deadline is before `now_ms`."""
    late = [row for row in batch if row.deadline and int(row.deadline) < now_ms]
    return [row for row in batch if row not in late] if late else list(batch), late
