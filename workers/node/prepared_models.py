"""The preparations of all model versions that are wanted on this host, until their pools start."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from marq.registry.consumers import pool_name
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings
from workers.launch import PoolSpec
from workers.node.preparation import Preparation, Preparations, Prepared

log = logging.getLogger(__name__)

TIDY_EVERY_S = 3600.0


class PreparedModels:
    """Starts preparations, reports them, and forgets those that are not needed any more."""

    def __init__(self, config: Settings, registry: Registry, node: str, on_done: Callable[[], None]) -> None:
        self._registry, self._node = registry, node
        self._preparations = Preparations(config, on_done)
        self._begun: dict[str, Preparation] = {}  # also finished ones, until their pool starts
        self._tidy_at = 0.0

    def prepare(self, spec: ModelSpec, size: int) -> Prepared | None:
        """The prepared version, or None for now: then the registry has a report on the preparation.

        Dependencies are installed also where no replica is to run: a registration waits for the outcome.
        """
        preparation = self._begun.get(spec.key)
        if preparation is None or spec.needs_new_replicas(preparation.spec):
            preparation = self._preparations.begin(spec, pool_name(spec, self._node))
            self._begun[spec.key] = preparation
        preparation.advance()
        if preparation.failing or (spec.has_dependencies and not preparation.reported):
            self._registry.report(spec, pool_name(spec, self._node), preparation.report(self._node, size))
            preparation.reported = preparation.prepared is not None
        return preparation.prepared

    def use(self, spec: ModelSpec) -> None:
        """A pool of the version starts."""
        del self._begun[spec.key]

    def keep(self, wanted: Collection[str]) -> None:
        """Forgets the versions that are not wanted any more, by their keys."""
        for key in self._begun.keys() - set(wanted):
            self._forget(key)

    def prepare_again(self, key: str) -> None:
        """Prepares a model that is registered again at once: the cause of a failure may be gone."""
        preparation = self._begun.get(key)
        if preparation and preparation.settled:
            self._forget(key)

    def tidy(self, wanted: Mapping[str, ModelSpec], pools: Collection[PoolSpec]) -> None:
        """Deletes unused files once an hour, when each preparation has succeeded or failed at least once."""
        begun = self._begun.values()
        if time.monotonic() < self._tidy_at or not all(each.settled for each in begun):
            return
        self._tidy_at = time.monotonic() + TIDY_EVERY_S
        used: list[Path] = [path for pool in pools for path in pool.paths]
        for prepared in filter(None, (each.prepared for each in begun)):
            used += prepared.paths
        self._preparations.tidy(wanted.values(), used)

    def stop(self) -> None:
        """Ends the installations that run."""
        self._preparations.stop()

    def _forget(self, key: str) -> None:
        spec = self._begun.pop(key).spec
        self._registry.withdraw(spec, pool_name(spec, self._node))
