"""Changes to a registered version: its number of replicas, settings that may change, and reloads."""

from collections.abc import Callable
from dataclasses import replace

from fastapi import Response

from gateway.management.parameters import (
    Changes,
    Force,
    MaxWorker,
    MinWorker,
    ModelVersion,
    Synchronous,
    Timeout,
)
from gateway.management.responses import outcome
from marq.control.capacity import Capacity
from marq.control.contradictions import check_size
from marq.control.readiness import start_failed, wait_for_gateways, wait_for_workers
from marq.errors import BadRequest
from marq.registry.models import Registry
from marq.registry.spec import SETTINGS, ModelSpec


class Scaling:
    """The handlers; `refresh` makes this gateway read the registry again.

    Method names and their first lines appear in the OpenAPI document.
    """

    def __init__(self, registry: Registry, capacity: Capacity, refresh: Callable[[], None]) -> None:
        self._registry, self._capacity, self._refresh = registry, capacity, refresh

    def scale(
        self,
        model_name: str,
        changes: Changes,
        model_version: ModelVersion = None,
        min_worker: MinWorker = None,
        max_worker: MaxWorker = None,
        synchronous: Synchronous = False,
        timeout: Timeout = None,
        force: Force = False,
    ) -> Response:
        """Sets the number of replicas of a version, and its maximum attempts per request."""
        fewest = 1 if min_worker is None else min_worker
        if max_worker is not None and max_worker < fewest:
            raise BadRequest("max_worker cannot be less than min_worker.")
        spec = self._registry.models().get(model_name, model_version)
        most = _most(spec, fewest) if max_worker is None else max_worker
        version = f", version: {model_version}" if model_version else ""
        check_size(spec, fewest, most)
        if most > spec.max_workers and not force:
            self._capacity.check(most)
        if changes:
            change = self._registry.adjust(spec, **changes)
            spec = change.spec
            if min_worker is None and max_worker is None:
                wait_for_gateways(self._registry, change.moment)
                return outcome(f"{_shown(changes)} for model: {model_name}{version}")
        spec = self._resize(spec, fewest, most)
        if not synchronous:
            return outcome("Processing worker updates...", 202)
        ready, reason = wait_for_workers(self._registry, spec, timeout)
        if not reason:
            return outcome(f"Workers scaled to {fewest} for model: {model_name}{version}")
        if ready:
            return outcome("Workers scaling in progress...", 206)
        raise start_failed(model_name, model_version or "null", reason)

    def _resize(self, spec: ModelSpec, fewest: int, most: int) -> ModelSpec:
        """Replicas that have been failing are started again."""
        failing = any(report.failures for report in self._registry.live_reports(spec).values())
        scaled = self._registry.scale(spec, fewest, most, restart=failing)
        self._refresh()
        return scaled.spec

    def reload(
        self,
        model_name: str,
        model_version: ModelVersion = None,
        synchronous: Synchronous = False,
        timeout: Timeout = None,
    ) -> Response:
        """Replaces all replicas of a version, each when its successor is ready."""
        spec = self._registry.reload(self._registry.models().get(model_name, model_version)).spec
        if not synchronous:
            return outcome("Processing worker updates...", 202)
        ready, reason = wait_for_workers(self._registry, spec, timeout)
        if not reason:
            return outcome(f"Workers reloaded for model: {spec.name}, version: {spec.version}")
        if ready:
            return outcome("Workers reloading in progress...", 206)
        raise start_failed(spec.name, spec.version, reason)


def _most(spec: ModelSpec, fewest: int) -> int:
    """The maximum of a request without one: where the number of replicas follows the queue, it stays."""
    kept = replace(spec, min_workers=fewest)
    return spec.max_workers if spec.is_elastic and kept.is_elastic else fewest


def _shown(changes: dict[str, int]) -> str:
    changed = [each for each in SETTINGS if each.name in changes]
    return ", ".join(f"{each.describe} set to {changes[each.name]}" for each in changed)
