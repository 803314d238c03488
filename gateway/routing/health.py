"""Whether this gateway can have predictions answered, as `/ping` says it."""

import time
from collections.abc import Callable

from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.snapshot import Snapshot

UNSERVED_S = 30.0  # a node that has just been lost is replaced in the meantime


class Health:
    """Follows the looks at the registry."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answered: float | None = None  # when Redis did; None before there are regular looks
        self._refused: float | None = None  # since when Redis has failed or refused commands
        self.failure = ""  # how Redis fails at present
        self._unserved: float | None = None  # since when no pool has run any default version
        self.is_failing = False  # whether a default version has been failing for longer than it may
        self.is_stopping = False  # whether this gateway ends

    def begin(self) -> None:
        """Regular looks begin."""
        self._answered = self._clock()

    def note(self, snapshot: Snapshot) -> None:
        """Redis has answered."""
        now, models = self._clock(), snapshot.models
        if self._answered is not None:
            self._answered = now
        defaults = [models.specs.get(name, {}).get(version) for name, version in models.defaults.items()]
        wanted = [spec for spec in defaults if spec and spec.min_workers]
        if not wanted or any(snapshot.of(spec) for spec in wanted):
            self._unserved = None
        elif self._unserved is None:
            self._unserved = now

    def refuse(self, error: Exception) -> None:
        """Redis has failed, or refused a command, because its disk is full, for example."""
        self.failure = f"Redis fails: {error}"
        if self._refused is None:
            self._refused = self._clock()

    def accept(self) -> None:
        """Redis has run all commands."""
        self._refused, self.failure = None, ""

    @property
    def is_refused(self) -> bool:
        """Whether Redis has failed for longer than a heartbeat may be late."""
        return self._refused is not None and self._clock() - self._refused > HEARTBEAT_LIMIT_S

    @property
    def is_good(self) -> bool:
        """A server without models is healthy, and so is one whose models are loading."""
        now = self._clock()
        is_silent = self._answered is not None and now - self._answered > HEARTBEAT_LIMIT_S
        is_unserved = self._unserved is not None and now - self._unserved > UNSERVED_S
        return not (self.is_stopping or self.is_failing or is_silent or self.is_refused or is_unserved)
