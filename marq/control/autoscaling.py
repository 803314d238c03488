"""How many replicas an elastic model version needs: the rule alone, without Redis and without a clock.

The version grows at once, to the larger of two numbers: the replicas that keep up with the arrivals, and
those that take all waiting requests within the target wait. It shrinks to the largest number that was needed
in the last `scale_down_delay_s`. That time doubles whenever the version grows again soon after it has shrunk.
All this needs the rate of a replica, which is measured while requests wait.
"""

import math
from collections import deque
from dataclasses import dataclass

from marq.registry.sizes.decisions import Decision
from marq.registry.spec import ModelSpec

BUSY = 0.85  # the share of a replica's rate that arrivals are to use: batches and arrivals are not even
HOT = 0.95  # the share above which replicas are added: between the two, chance changes nothing
REMEMBERED_S = 30.0  # older measurements count for less and less
FOLLOWED_S = 10.0  # requests that come within less are a burst: they say nothing about the next ones
MEASURED_S = 1.5  # of one replica, while requests wait: from then on its rate is known
MOST_PATIENCE = 16  # times `scale_down_delay_s`
ROUNDING = 0.02  # of a replica: less than that needs no further one

WAITING = "the waiting requests would wait longer than the target"
ARRIVING = "more requests arrive than the replicas can take"
WAKING = "a request has come"
FEWER = "fewer replicas have been enough for scaleDownDelaySec"
IDLE = "no request has come for idleTimeoutSec"
BOUNDS = "the smallest or largest size has changed"


@dataclass(frozen=True)
class Load:
    """A look at one model version."""

    waiting: int  # requests that no replica has taken
    is_idle: bool  # whether every request has been answered
    served: float = 0.0  # requests that replicas have answered since the look before
    busy_served: float = 0.0  # those of them that were answered while others waited
    busy_s: float = 0.0  # the time of all ready replicas together in which that was so


class Average:
    """Amount per second; older ones weigh less."""

    def __init__(self) -> None:
        self.seconds = self.amount = 0.0

    def add(self, seconds: float, amount: float, elapsed_s: float) -> None:
        kept = math.exp(-elapsed_s / REMEMBERED_S)
        self.seconds, self.amount = self.seconds * kept + seconds, self.amount * kept + amount


class Autoscaling:
    """The rule for one model version. Call `look` often; times are seconds of any one clock."""

    def __init__(self, now: float, size: int, last: Decision | None = None) -> None:
        """`size`: as it is now. `last`: another process's decision, whose measured rate goes on to count."""
        self.size = size
        self._known_rate = last.rate if last else 0.0
        self._busy, self._arrivals = Average(), Average()
        self._busy_served = 0.0  # in all, while requests waited
        self._waited = 0
        self._looked = self._active = now
        self._shrunk: float | None = None  # when it did last, until it has grown again
        self._patience = 1  # times `scale_down_delay_s`
        self._needed: deque[tuple[float, int]] = deque([(now, size)])  # (time, replicas), decreasing

    @property
    def rate(self) -> float:
        """Requests per second of one replica; 0: unknown."""
        return self._known_rate

    @property
    def arrivals(self) -> float:
        """Requests per second."""
        return max(0.0, self._arrivals.amount) / max(FOLLOWED_S, self._arrivals.seconds)

    def look(self, now: float, spec: ModelSpec, load: Load, most: int) -> Decision | None:
        """A new decision, or None: the size stays. `most`: the replicas for which there are devices."""
        self._note(now, load, spec.batch_size)
        fewest = spec.min_workers
        if spec.may_rest and self._is_awake(now, spec, load):
            fewest = 1
        largest = max(fewest, min(spec.max_workers, most))
        needed = min(largest, max(fewest, self._need(spec, load))) if fewest else 0
        delay_s = self._patience * spec.scale_down_delay_s
        self._remember(now, needed, delay_s)
        size, why = self._choose(needed, fewest, largest, load)
        if size == self.size:
            return None
        self._note_change(now, size, delay_s)
        before, self.size = self.size, size
        return Decision(
            size, before=before, waiting=load.waiting, arrivals=round(self.arrivals, 2),
            rate=round(self.rate, 3), why=why,
        )  # fmt: skip

    def _note(self, now: float, load: Load, batch_size: int) -> None:
        elapsed, self._looked = now - self._looked, now
        arrived = load.served + load.waiting - self._waited
        self._waited = load.waiting
        self._arrivals.add(elapsed, arrived, elapsed)
        if load.busy_s:
            self._busy.add(load.busy_s, load.busy_served, elapsed)
            self._busy_served += load.busy_served
        if self._busy.seconds >= MEASURED_S:
            # The first batch may be about to end: until then the rate is not known to be lower.
            served = self._busy.amount if self._busy_served >= batch_size else batch_size
            self._known_rate = served / self._busy.seconds
        if not load.is_idle or load.served:
            self._active = now

    def _is_awake(self, now: float, spec: ModelSpec, load: Load) -> bool:
        if self.size == 0:
            return not load.is_idle
        return now - self._active < spec.idle_timeout_s

    def _need(self, spec: ModelSpec, load: Load) -> int:
        if not self.rate:
            return 0 if load.is_idle else max(1, self.size)
        for_arrivals = self.arrivals / (BUSY * self.rate)
        if self.arrivals <= HOT * self.size * self.rate:
            for_arrivals = min(for_arrivals, self.size)
        for_waiting = load.waiting / (self.rate * spec.target_queue_ms / 1000)
        return math.ceil(max(for_arrivals, for_waiting) - ROUNDING)

    def _remember(self, now: float, needed: int, delay_s: float) -> None:
        while self._needed and self._needed[-1][1] <= needed:
            self._needed.pop()
        self._needed.append((now, needed))
        while self._needed[0][0] < now - delay_s:
            self._needed.popleft()

    def _note_change(self, now: float, size: int, soon_s: float) -> None:
        """Growth soon after it has shrunk shows that this was too early."""
        if size < self.size:
            self._shrunk = now
        elif self._shrunk is not None:
            was_soon = now - self._shrunk < soon_s
            self._patience = (
                min(MOST_PATIENCE, 2 * self._patience) if was_soon else max(1, self._patience // 2)
            )
            self._shrunk = None

    def _choose(self, needed: int, fewest: int, largest: int, load: Load) -> tuple[int, str]:
        """The size, and why it is another one."""
        if needed > self.size:
            if self.size == 0:
                return needed, WAKING
            if needed == fewest:
                return needed, BOUNDS
            for_waiting = load.waiting > self.size * self.rate
            return needed, WAITING if for_waiting else ARRIVING
        if fewest == 0:
            return 0, IDLE
        lasting = min(largest, self._needed[0][1])
        if lasting < self.size:
            return lasting, FEWER if largest >= self.size else BOUNDS
        return self.size, ""
