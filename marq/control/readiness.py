"""Waits until pools run, have stopped, or have installed what a model needs; until gateways know a change."""

import re
import time

from marq import keys
from marq.errors import Conflict, ModelVersionNotFound, RequestTimeout, ServiceError
from marq.registry.models import HEARTBEAT_LIMIT_S, Registry
from marq.registry.spec import ModelSpec

POLL_S = 0.05
GATEWAY_POLL_S = 0.01
START_S = 10.0  # what unpacking and starting a pool may add to a start-up time-out
_RAISED = re.compile(r"(?:\w+\.)*(\w+)(?:: (.*))?")  # an exception; more lines of its text have blanks
_OF_CUDA = ("RuntimeError", "OutOfMemoryError", "AcceleratorError")  # the last two: torch's RuntimeErrors


def wait_for_workers(registry: Registry, spec: ModelSpec, timeout_s: float | None = None) -> tuple[int, str]:
    """How many replicas are ready, and why not as many as there should be (empty: they are).

    Those of an earlier generation do not count. Waits until they are and all gateways know it, until one has
    failed, or until the time-out: by default the model's for starting. Raises ModelVersionNotFound or
    Conflict if the version is unregistered, registered again, or gets another size meanwhile.
    """
    timeout_s = timeout_s or spec.startup_timeout_s + START_S
    deadline = time.monotonic() + timeout_s
    while True:
        _check_unchanged(registry, spec)
        reports = [
            report
            for report in registry.live_reports(spec).values()
            if report.generation is not None and report.generation >= spec.generation
        ]
        replicas = [replica for report in reports for replica in report.replicas]
        ready = sum(r.is_ready and r.generation >= spec.generation for r in replicas)
        if ready >= spec.min_workers and len(replicas) <= spec.max_workers:
            wait_for_gateways(registry, registry.announce("ready", spec))
            return ready, ""
        reason = next((report.reason for report in reports if report.failures), "")
        if reason and spec.min_workers:
            return ready, reason
        if time.monotonic() >= deadline:
            return ready, f"{ready} of {spec.min_workers} workers are ready after {timeout_s:.0f} s"
        time.sleep(POLL_S)


def _check_unchanged(registry: Registry, spec: ModelSpec) -> None:
    """Raises ModelVersionNotFound or Conflict if another request has changed what is waited for."""
    if not registry.has(spec):
        raise ModelVersionNotFound(f"Model version: {spec.version} does not exist for model: {spec.name}")
    now = registry.current(spec)
    if (now.min_workers, now.max_workers) != (spec.min_workers, spec.max_workers):
        raise Conflict(
            f"Model {spec.name}, version {spec.version}, was scaled to {now.min_workers} workers by another "
            "request meanwhile."
        )
    if now.generation < spec.generation:
        raise Conflict(
            f"Model {spec.name}, version {spec.version}, was registered again by another request meanwhile."
        )


def wait_for_gateways(registry: Registry, change: float, timeout_s: float = HEARTBEAT_LIMIT_S) -> None:
    """Waits until every gateway knows a change, given its moment by Redis's clock.

    A gateway that does not report within the heartbeat limit is lost: the wait ends then at the latest.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        alive = registry.now() - HEARTBEAT_LIMIT_S
        if not registry.redis.zcount(keys.GATEWAYS, alive, f"({change!r}"):
            return
        time.sleep(GATEWAY_POLL_S)


def wait_until_stopped(registry: Registry, spec: ModelSpec, unregistered: float, timeout_s: float) -> None:
    """Waits until no pool runs the version, and no gateway queues for it. Raises RequestTimeout.

    `unregistered` is the moment of that change. A version that is registered again ends the wait.
    """
    began = time.monotonic()
    wait_for_gateways(registry, unregistered, min(timeout_s, HEARTBEAT_LIMIT_S))
    while not registry.has(spec) and any(
        report.wanted or report.replicas for report in registry.live_reports(spec).values()
    ):
        if time.monotonic() - began >= timeout_s:
            raise RequestTimeout(f"Timed out while cleaning resources: {spec.name}")
        time.sleep(POLL_S)


def wait_for_dependencies(registry: Registry, spec: ModelSpec, since: float) -> str:
    """Why the first node that has tried cannot install them. Empty: it can, or no node is there to try.

    Reports from before `since` (unix s of the Redis server's clock) are of an earlier registration. Waits as
    long as a node is at work. Raises ModelNotFound or ModelVersionNotFound if the version is unregistered
    meanwhile.
    """
    deadline = time.monotonic() + HEARTBEAT_LIMIT_S
    while time.monotonic() < deadline and registry.live_nodes():
        registry.models().get(spec.name, spec.version)
        reports = [report for report in registry.live_reports(spec).values() if report.reported >= since]
        if any(report.is_prepared for report in reports):
            return ""
        if reason := next((report.reason for report in reports if report.preparation_failed), ""):
            return reason
        if reports:
            deadline = time.monotonic() + HEARTBEAT_LIMIT_S
        time.sleep(POLL_S)
    return ""


def start_failed(name: str, version: str, reason: str) -> ServiceError:
    """500, or 507 if the handler ran out of memory (of the device, too), as TorchServe judges it."""
    text = f"Failed to start workers for model {name} version: {version}\n{reason}"
    raised = next(filter(None, map(_RAISED.fullmatch, reversed(reason.splitlines()))), None)
    kind, message = (raised[1], raised[2] or "") if raised else ("", "")
    memory = kind == "MemoryError" or (kind in _OF_CUDA and "CUDA" in message)
    return ServiceError(text, 507 if memory else None)
