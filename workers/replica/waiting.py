"""The batching rule: how long a batch that is not full waits for more rows. No Redis, no clock."""

from collections import deque

from marq.registry.spec import ModelSpec

MIN_HANDLER_S = 0.001  # a faster handler does not wait: it has run before more rows arrive
LINGER = 0.05  # of the handler's time: rows may wait for so long even when their delay has passed
MIN_PAUSE_S = 0.0005  # a shorter wait costs more than it brings
MOST_LOOKS = 10  # for new rows during a short wait
LONGEST_PAUSE_S = 0.1  # between two looks: a batch that is full meanwhile waits for no more
PROBE_EVERY = 16  # batches: how often the rule waits although recent batches gained nothing by it
MEMORY = 16  # batches whose sizes are remembered
AHEAD_S, MOST_AHEAD = 0.001, 32  # fetched ahead for a fast handler: work for so long, in so many batches


class WaitingRule:
    """Decides from three numbers: the rows that are here, the age of the oldest, the handler's usual time."""

    def __init__(self, spec: ModelSpec) -> None:
        self._batch_size, self._delay_s = spec.batch_size, spec.max_batch_delay_ms / 1000
        self._is_fixed = spec.batching == "fixed"
        self._sizes: deque[int] = deque(maxlen=MEMORY)

    @property
    def expected(self) -> int:
        """The largest of the recent batches; 0 before the first."""
        return max(self._sizes, default=0)

    def record(self, rows: int) -> None:
        """Notes the number of rows that were here when a batch was formed."""
        self._sizes.append(min(rows, self._batch_size))

    def longest_s(self, rows: int, age_s: float, handler_s: float) -> float:
        """The longest useful wait for more rows, in seconds.

        The batching delay counts from the arrival of the oldest row. `batching: fixed` waits for all of it.
        Otherwise the wait ends after the handler's usual time: the batch could have run by then, and the new
        rows be the next one. It lasts a moment (LINGER) in any case: clients that have just been answered may
        be about to send again.
        """
        if rows >= self._batch_size:
            return 0.0
        left = self._delay_s - age_s
        if self._is_fixed:
            return left
        if handler_s < MIN_HANDLER_S:
            return 0.0
        return min(max(left, handler_s * LINGER, MIN_PAUSE_S), handler_s)

    def is_complete(self, rows: int, batches: int) -> bool:
        """Whether no more rows are expected: as many are here as in the largest recent batch.

        Never with `batching: fixed`, nor in each PROBE_EVERY-th batch: it finds out whether more would come.
        """
        if self._is_fixed or batches % PROBE_EVERY == 0:
            return False
        return rows >= self.expected


def pause_s(wait_s: float) -> float:
    """The time between two looks for new rows during a wait."""
    return min(max(MIN_PAUSE_S, wait_s / MOST_LOOKS), LONGEST_PAUSE_S)


def batches_ahead(handler_s: float) -> int:
    """How many batches to fetch at once.

    Those of the next AHEAD_S: an idle replica would not have run them earlier.
    """
    return max(1, min(MOST_AHEAD, int(AHEAD_S / handler_s))) if handler_s else 1
