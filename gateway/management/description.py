"""The answer of describe, with its schema: TorchServe's keys in TorchServe's order, then marq's own."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from gateway.asgi import Document, Responses
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.setting import Setting
from marq.registry.snapshot import Models
from marq.registry.spec import SETTINGS, ModelSpec

_SHOWN = [setting for setting in SETTINGS if setting.describe]
_TORCHSERVES = [setting for setting in _SHOWN if setting.torchserve]
_MARQS = [setting for setting in _SHOWN if not setting.torchserve]


def description(
    spec: ModelSpec, reports: list[PoolReport], waiting: int, gpus: int, said: Sequence[str] = ()
) -> Document:
    """One version, with the reports of its pools; `said`: its notices."""
    workers = [_worker(report.node, replica) for report in reports for replica in report.replicas]
    has_gpu = any(worker["gpu"] for worker in workers) if workers else gpus > 0
    described = {
        **_values(spec, _TORCHSERVES),
        "deviceType": "gpu" if has_gpu and spec.device_type != "cpu" else "cpu",
        "deviceIds": spec.device_ids or None,
        "workers": workers,
        "jobQueueStatus": {
            "remainingCapacity": max(0, spec.job_queue_size - waiting),
            "pendingRequests": waiting,
        },
        **_values(spec, _MARQS),
        "loadFailure": _load_failure(reports),
        "notices": list(said) or None,
    }
    return {key: value for key, value in described.items() if value is not None}


def scaling(spec: ModelSpec, models: Models) -> Document:
    """How many replicas an elastic version is to have, and the decision behind that; empty for others."""
    if not spec.is_elastic:
        return {}
    decision = models.decisions.get(spec.key)
    last = {"decided": _utc(decision.moment), "reason": decision.reason} if decision else {}
    limits = {
        "targetQueueMs": spec.target_queue_ms,
        "scaleDownDelaySec": spec.scale_down_delay_s,
        "idleTimeoutSec": spec.idle_timeout_s,
    }
    return {"scaling": {"wanted": models.size(spec), **limits, **last}}


def _values(spec: ModelSpec, settings: list[Setting]) -> Document:
    return {setting.describe: getattr(spec, setting.name) for setting in settings}


def _worker(node: str, replica: ReplicaReport) -> Document:
    """One replica: TorchServe's keys, then our own."""
    device = replica.device
    return {
        "id": f"{node}/{replica.id}",  # as in the lines of its log
        "startTime": _utc(replica.started),
        "status": "READY" if replica.is_ready else "UNLOADING",
        "memoryUsage": replica.memory,
        "pid": replica.pid,
        "gpu": device != "cpu",
        "gpuUsage": "N/A" if device == "cpu" else f"gpuId::{device.partition(':')[2]}",
        "node": node,
        "device": device,
        "state": replica.state,
        "requests": replica.requests,
        "batches": replica.batches,
        **({"fittingBatchSize": replica.fitting} if replica.fitting else {}),
    }


def _load_failure(reports: list[PoolReport]) -> Document | None:
    """The failures to load on all nodes together; None if there are none."""
    failing = [report for report in reports if report.failures]
    if not failing:
        return None
    since = [report.failing_since for report in failing if report.failing_since]
    return {
        "failures": sum(report.failures for report in failing),
        **({"failingSince": _utc(min(since))} if since else {}),
        "reason": failing[0].reason,
    }


def _utc(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object(required: Iterable[str], **kinds: str | Document) -> Document:
    properties = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in kinds.items()}
    return {"type": "object", "required": list(required), "properties": properties}


def _schemas(settings: list[Setting]) -> dict[str, Document]:
    return {each.describe: _TYPES[each.type] | {"description": each.description} for each in settings}


_TYPES: dict[object, Document] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    list[int]: {"type": "array", "items": {"type": "integer"}},
}
_TIME: Document = {"type": "string", "format": "date-time"}
_ALWAYS: dict[str, str | Document] = {
    "id": "string",
    "startTime": _TIME,
    "status": {"type": "string", "enum": ["READY", "UNLOADING"]},
    "memoryUsage": "integer",
    "pid": "integer",
    "gpu": "boolean",
    "gpuUsage": "string",
    "node": "string",
    "device": "string",
    "state": {"type": "string", "enum": ["loading", "ready", "draining", "stopped"]},
    "requests": "integer",
    "batches": "integer",
}
_WORKER = _object(
    _ALWAYS,
    **_ALWAYS,
    fittingBatchSize={"type": "integer", "description": "Maximum batch size that fits into GPU memory."},
)
_LOAD_FAILURE = _object(
    ("failures", "reason"),
    failures={"type": "integer", "description": "Number of consecutive replica crashes on all nodes."},
    failingSince=_TIME,
    reason={
        "type": "string",
        "description": "Cause of the last crash, with the replica's last output.",
    },
) | {"description": "Why replicas crash while or soon after they load; absent once one is stable."}
_VERSION = _object(
    ("modelName", "modelVersion", "modelUrl", "minWorkers", "maxWorkers", "workers", "jobQueueStatus"),
    **_schemas(_TORCHSERVES) | {"deviceType": {"type": "string", "enum": ["cpu", "gpu"]}},
    workers={"type": "array", "items": _WORKER},
    jobQueueStatus=_object((), remainingCapacity="integer", pendingRequests="integer"),
    **_schemas(_MARQS),
    loadFailure=_LOAD_FAILURE,
    notices={
        "type": "array",
        "items": {"type": "string"},
        "description": "How it works otherwise than asked, for example on the CPU; absent if it does not.",
    },
    scaling=_object(
        ("wanted",),
        wanted="integer",
        targetQueueMs="integer",
        scaleDownDelaySec="integer",
        idleTimeoutSec="integer",
        decided=_TIME,
        reason="string",
    )
    | {"description": "How many replicas there are to be, where that follows the queue; absent elsewhere."},
    customizedMetadata={"description": "The description that the handler returned, if requested."},
)
DESCRIBED: Responses = {
    200: {
        "description": "The version; all of them for `all`.",
        "content": {"application/json": {"schema": {"type": "array", "items": _VERSION}}},
    }
}
