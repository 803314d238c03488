"""Batches of rows whose bodies have like sizes: texts that are padded to the longest one waste less time."""

from collections.abc import Sequence

from marq.plugins.protocols import Held

FACTOR = 2.0  # between the smallest and the largest body


class LikeSizes:
    """The oldest row is always in the batch, so none waits for ever."""

    protocol = 1

    def wait_s(self, held: Held) -> float:
        """Not longer than the handler takes: in that time it could run the rows that are here."""
        return 0.0 if len(self.choose(held)) == held.batch_size else held.handler_s

    def choose(self, held: Held) -> Sequence[int]:
        size = held.rows[0].bytes
        like = [n for n, row in enumerate(held.rows) if size / FACTOR <= row.bytes <= size * FACTOR]
        return like[: held.batch_size]
