"""A plugin's batching policy; whatever it does, every row runs."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from marq.plugins.protocols import Held
from marq.plugins.threads import DaemonThreads

if TYPE_CHECKING:
    from marq.plugins.discovery import Plugin

T = TypeVar("T")

log = logging.getLogger(__name__)

LIMIT_S = 1.0
SLOW_S = 0.05
QUIET_S = 60.0  # between two lines about the policy
MEANWHILE = "the batch forms by marq's own rule"


class Policy:
    """The policy of one replica. None: it has no usable answer, and marq's own rule takes over."""

    def __init__(self, plugin: "Plugin", limit_s: float = LIMIT_S) -> None:
        self._made, self._label, self._limit_s = plugin.made, plugin.found.label, limit_s
        self._threads = DaemonThreads(plugin.found.name, 1)
        self._last: Future[object] | None = None
        self._quiet_until = 0.0

    def wait_s(self, held: Held) -> float | None:
        """How long to wait for more rows."""
        return self._asked(lambda: float(self._made.wait_s(held)))

    def choose(self, held: Held) -> list[int] | None:
        """Which rows run together."""
        return self._asked(lambda: _checked(list(self._made.choose(held)), held))

    def _asked(self, ask: Callable[[], T]) -> T | None:
        if self._last is not None and not self._last.done():
            return None  # its thread still hangs
        began = time.monotonic()
        answer = self._threads.run(ask)
        self._last = answer  # type: ignore[assignment]
        try:
            found = answer.result(self._limit_s)
        except TimeoutError:
            self._complain(f"does not answer within {self._limit_s:g} s: {MEANWHILE}")
            return None
        except Exception as error:
            self._complain(f"failed ({type(error).__name__}: {error}): {MEANWHILE}")
            return None
        if (seconds := time.monotonic() - began) > SLOW_S:
            self._complain(f"is slow ({seconds:.3f} s)")
        return found

    def _complain(self, what: str) -> None:
        now = time.monotonic()
        if now > self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.error("%s %s", self._label, what)


def _checked(chosen: list[int], held: Held) -> list[int]:
    """Raises ValueError for indices that make no batch."""
    known = range(len(held.rows))
    if not 1 <= len(chosen) <= held.batch_size or len({*chosen}) < len(chosen) or not {*chosen} <= {*known}:
        raise ValueError(
            f"{chosen!r:.100} is not a choice of 1 to {held.batch_size} of {len(held.rows)} rows"
        )
    return chosen
