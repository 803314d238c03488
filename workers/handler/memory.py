"""How many rows fit into the device's memory, learnt from batches that did not."""

import logging
import sys
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

REMEMBERED_S = 60.0  # then twice as many are tried


class RowLimit:
    """The maximum number of rows to run at once. `on_change` gets it; 0: no limit."""

    def __init__(self) -> None:
        self._rows = 0
        self._until = 0.0
        self.on_change: Callable[[int], None] = lambda _: None

    def of(self, rows: int) -> int:
        """How many of `rows` to run at once."""
        if not self._rows:
            return rows
        if time.monotonic() >= self._until:
            self._set(self._rows * 2 if self._rows * 2 < rows else 0)
        return min(rows, self._rows or rows)

    def shrink(self, rows: int) -> int:
        """Notes that `rows` did not fit; half of them may."""
        free_memory()
        self._set(max(1, rows // 2))
        log.warning(
            "a batch of %d rows does not fit into GPU memory; trying %d rows at a time", rows, self._rows
        )
        return self._rows

    def _set(self, rows: int) -> None:
        self._rows, self._until = rows, time.monotonic() + REMEMBERED_S
        self.on_change(rows)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device's memory, not the host's, was too small."""
    return isinstance(error, RuntimeError) and "CUDA out of memory" in str(error)


def free_memory() -> None:
    """Returns torch's cached memory to the device."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
