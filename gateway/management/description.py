"""What describe answers: TorchServe's keys in TorchServe's order, then marq's own; and their schema."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from marq.registry.spec import ModelSpec

NOT_OFFERED = {  # of what describe shows
    "continuousBatching": False, "useJobTicket": False, "useVenv": False, "stateful": False,
    "sequenceMaxIdleMSec": 0, "sequenceTimeoutMSec": 0, "maxNumSequence": 0, "maxSequenceJobQueueSize": 0,
}  # fmt: skip


def description(spec: ModelSpec, reports: list[dict[str, Any]], waiting: int, gpus: int) -> dict[str, Any]:
    """One version, with what its pools report."""
    workers = [_worker(report["node"], replica) for report in reports for replica in report["replicas"]]
    has_gpu = any(worker["gpu"] for worker in workers) if workers else gpus > 0
    described = {
        "modelName": spec.name,
        "modelVersion": spec.version,
        "modelUrl": spec.url,
        "runtime": spec.runtime,
        "minWorkers": spec.min_workers,
        "maxWorkers": spec.max_workers,
        "batchSize": spec.batch_size,
        "maxBatchDelay": spec.max_batch_delay_ms,
        "responseTimeout": spec.response_timeout_s,
        "startupTimeout": spec.startup_timeout_s,
        "maxRetryTimeoutInSec": spec.max_retry_timeout_s,
        "clientTimeoutInMills": spec.client_timeout_ms,
        "parallelType": spec.parallel_type,
        "parallelLevel": spec.parallel_level,
        "deviceType": "gpu" if has_gpu and spec.device_type != "cpu" else "cpu",
        "deviceIds": spec.device_ids or None,
        **NOT_OFFERED,
        "loadedAtStartup": spec.loaded_at_startup,
        "workers": workers,
        "jobQueueStatus": {
            "remainingCapacity": max(0, spec.job_queue_size - waiting),
            "pendingRequests": waiting,
        },
        "maxAttempts": spec.max_attempts,
        "loadFailure": _load_failure(reports),
    }
    return {key: value for key, value in described.items() if value is not None}


def _worker(node: str, replica: dict[str, Any]) -> dict[str, Any]:
    """One replica: TorchServe's keys, then our own."""
    device = replica["device"]
    return {
        "id": str(replica["id"]),
        "startTime": _utc(replica["started"]),
        "status": "READY" if replica["state"] == "ready" else "UNLOADING",
        "memoryUsage": replica["memory"],
        "pid": replica["pid"],
        "gpu": device != "cpu",
        "gpuUsage": "N/A" if device == "cpu" else f"gpuId::{device.partition(':')[2]}",
        "node": node,
        "device": device,
        "state": replica["state"],
        "requests": replica["requests"],
        "batches": replica["batches"],
        **({"fittingBatchSize": replica["fitting"]} if replica.get("fitting") else {}),
    }


def _load_failure(reports: list[dict[str, Any]]) -> dict[str, Any] | None:
    """How replicas fail to load on all nodes together; None where they do not."""
    failing = [report for report in reports if report["failures"]]
    if not failing:
        return None
    since = [report["failing_since"] for report in failing if report["failing_since"]]
    return {
        "failures": sum(report["failures"] for report in failing),
        **({"failingSince": _utc(min(since))} if since else {}),
        "reason": failing[0]["reason"],
    }


def _utc(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object(required: Iterable[str], **kinds: str | dict[str, Any]) -> dict[str, Any]:
    properties = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in kinds.items()}
    return {"type": "object", "required": list(required), "properties": properties}


def _kind(value: object) -> str:
    return "boolean" if isinstance(value, bool) else "integer"


_TIME = {"type": "string", "format": "date-time"}
_WORKER = _object(
    ("id", "startTime", "status", "memoryUsage", "pid", "gpu", "gpuUsage", "node", "device", "state",
     "requests", "batches"),
    id="string", startTime=_TIME, status={"type": "string", "enum": ["READY", "UNLOADING"]},
    memoryUsage="integer", pid="integer", gpu="boolean", gpuUsage="string", node="string", device="string",
    state={"type": "string", "enum": ["loading", "ready", "draining", "stopped"]},
    requests="integer", batches="integer",
    fittingBatchSize={"type": "integer", "description": "Larger batches do not fit into the GPU's memory."},
)  # fmt: skip
_LOAD_FAILURE = _object(
    ("failures", "reason"),
    failures={"type": "integer", "description": "Replicas that ended in a row, on all nodes."},
    failingSince=_TIME,
    reason={"type": "string", "description": "How the last one ended, with the last lines that it printed."},
) | {"description": "Why replicas fail to load, or end soon afterwards; there until one has lasted."}
_VERSION = _object(
    ("modelName", "modelVersion", "modelUrl", "minWorkers", "maxWorkers", "workers", "jobQueueStatus"),
    modelName="string", modelVersion="string", modelUrl="string", runtime="string", minWorkers="integer",
    maxWorkers="integer", batchSize="integer", maxBatchDelay="integer", responseTimeout="integer",
    startupTimeout="integer", maxRetryTimeoutInSec="integer", clientTimeoutInMills="integer",
    parallelType="string", parallelLevel="integer", deviceType={"type": "string", "enum": ["cpu", "gpu"]},
    deviceIds={"type": "array", "items": {"type": "integer"}},
    **{name: _kind(value) for name, value in NOT_OFFERED.items()},
    loadedAtStartup="boolean", workers={"type": "array", "items": _WORKER},
    jobQueueStatus=_object((), remainingCapacity="integer", pendingRequests="integer"),
    maxAttempts={
        "type": "integer",
        "description": "How often a request may be tried whose replicas end while they run it.",
    },
    loadFailure=_LOAD_FAILURE,
    customizedMetadata={"description": "What the handler tells of itself, if it was asked."},
)  # fmt: skip
DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The version; all of them for `all`.",
        "content": {"application/json": {"schema": {"type": "array", "items": _VERSION}}},
    }
}
