"""Waiting for what nodes install for a model, which they tell in their reports (workers/preparation.py)."""

import time
from typing import Any

from marq import keys
from marq.registry import HEARTBEAT_LIMIT_S, ModelSpec, Registry

POLL_S = 0.1


def wait_for_dependencies(registry: Registry, spec: ModelSpec, since: float) -> str:
    """Why the first node that has tried cannot install them. Empty: it can, or no node is there to try.

    Reports from before `since` (unix s of the Redis server's clock) are of an earlier registration. Waits as
    long as a node is at work. Raises ModelNotFound or ModelVersionNotFound if the version is unregistered
    meanwhile.
    """
    deadline = time.monotonic() + HEARTBEAT_LIMIT_S
    while time.monotonic() < deadline and _nodes(registry):
        registry.models().get(spec.name, spec.version)
        reports = [report for report in registry.live_reports(spec).values() if report["reported"] >= since]
        # Pools, whose reports do not tell whether they are `preparing`, start when all is installed.
        if any(not report.get("preparing") and not _failed(report) for report in reports):
            return ""
        if reason := next((report["reason"] for report in reports if _failed(report)), ""):
            return str(reason)
        if reports:
            deadline = time.monotonic() + HEARTBEAT_LIMIT_S
        time.sleep(POLL_S)
    return ""


def _failed(report: dict[str, Any]) -> bool:
    return "preparing" in report and bool(report["failures"])


def _nodes(registry: Registry) -> int:
    """How many nodes are alive."""
    alive = registry.now() - HEARTBEAT_LIMIT_S
    return int(registry.redis.zcount(keys.NODES, alive, "+inf"))
