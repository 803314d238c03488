"""A process's copy of the registry, for a Redis that has lost it by FLUSHALL or without its file.

A mark that is written once tells an empty Redis from a registry from which all models were removed.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from marq.registry.models import Registry
from marq.registry.snapshot import Models, Snapshot

log = logging.getLogger(__name__)

T = TypeVar("T", Models, Snapshot)


class Memory:
    """Reads the registry. If Redis has lost it since the last time, writes it again first.

    Several processes may do so at the same time: what is registered in the meantime stays.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._models: Models | None = None  # as they were read last

    def models(self) -> Models:
        """Raises redis.RedisError."""
        return self._read(self._registry.models, lambda models: models)

    def snapshot(self) -> Snapshot:
        """Raises redis.RedisError."""
        return self._read(self._registry.snapshot, lambda snapshot: snapshot.models)

    def _read(self, read: Callable[[], T], models: Callable[[T], Models]) -> T:
        while not self._is_whole(models(found := read())):
            pass
        return found

    def _is_whole(self, models: Models) -> bool:
        """Whether this is the Redis that was read before; else the models of that one are added to it."""
        known = self._models
        if models.mark and (known is None or known.mark == models.mark):
            self._models = models
            return True
        if known is not None:
            log.error("Redis has lost the registry: the models that were registered are registered again")
            self._registry.restore(known)
        self._models = replace(known or models, mark=self._registry.marked())
        return False
