"""`model-config.yaml`: the keys that the server reads. All others belong to the handler."""

from dataclasses import dataclass, field
from typing import Any

from archive import bounded_yaml
from archive.value_rules import MAX_INT, Rule, boolean, choice, integer, raised, string


@dataclass(frozen=True)
class Torchrun:
    """The `torchrun` map, with TorchServe's defaults."""

    nnodes: int = 1
    nproc_per_node: int = 1
    rdzv_backend: str = "c10d"
    rdzv_endpoint: str | None = None
    rdzv_conf: str | None = None
    monitor_interval_s: int = 5
    node_rank: int = 0
    omp_num_threads: int = 1


@dataclass(frozen=True)
class ModelConfig:
    """Each value is None where the file does not set it, so that the caller can take the next default.

    Values have TorchServe's bounds applied: values that it raises to a minimum are raised, and a value that
    it reads as "unset" (such as `maxBatchDelay: 0`) is None. So is a value of a wrong type or beyond its
    bounds, which gives one text: in `warnings` where the default does no harm, as in TorchServe, else in
    `faults`. Whether devices exist is not checked here.
    """

    raw: dict[object, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay_ms: int | None = None
    response_timeout_s: int | None = None
    startup_timeout_s: int | None = None
    device_type: str | None = None  # cpu, gpu
    device_ids: tuple[int, ...] | None = None
    parallel_level: int | None = None  # processes of one replica; from `torchrun` where that is set
    parallel_type: str | None = None  # pp, tp, pptp, custom
    torchrun: Torchrun | None = None
    max_retry_timeout_s: int | None = None  # 0: never restart
    client_timeout_ms: int | None = None  # 0: never
    job_queue_size: int | None = None
    use_job_ticket: bool | None = None
    sequence_max_idle_ms: int | None = None  # the next three are None unless this is set
    sequence_timeout_ms: int | None = None  # 0: never
    max_sequence_job_queue_size: int | None = None
    max_num_sequence: int | None = None
    sequence_batching: bool | None = None
    continuous_batching: bool | None = None
    async_communication: bool | None = None
    use_venv: bool | None = None

    # Keys that TorchServe does not know.
    batching: str = "adaptive"  # or fixed: wait for the whole batch delay, as TorchServe does
    max_attempts: int | None = None
    max_requests_per_replica: int | None = None  # requests after which a replica is replaced
    sequence_drain_s: int | None = None  # for which a replaced replica goes on with its open sequences
    max_replica_memory_mb: int | None = None  # memory above which a replica is replaced
    target_queue_ms: int | None = None  # the longest wait before replicas are added
    scale_down_delay_s: int | None = None  # before some are stopped
    idle_timeout_s: int | None = None  # before the last one is; with `minWorkers: 0`
    replicas_per_device: int | None = None
    webhook_url: str | None = None  # of jobs that name no other
    caller_tag: str | None = None  # the tag that names the caller of a job
    caller_weights: str | None = None  # alice=3,bob=1
    caller_quota: int | None = None  # unfinished jobs of each caller

    @property
    def ranks(self) -> int:
        """The number of processes of a replica that is a group of them, else 0."""
        is_group = self.parallel_type and (self.parallel_type != "custom" or self.torchrun)
        return self.parallel_level or 0 if is_group else 0

    @classmethod
    def parse(cls, text: str | bytes, name: str = "model-config.yaml") -> "ModelConfig":
        """Reads the YAML of the file `name`; an empty one sets nothing. Raises InvalidArchive."""
        raw = bounded_yaml.load_map(text, name)
        texts = _Texts()
        values = _read(_KEYS, raw, "", texts)
        if isinstance(given := raw.get("torchrun"), dict):
            values["torchrun"] = _torchrun(given, texts)
            values["parallel_level"] = values["torchrun"].nproc_per_node
        if values.get("idle_timeout_s") and raw.get("minWorkers") == 0:
            values["min_workers"] = 0  # TorchServe would raise it to 1
        if not values.get("sequence_max_idle_ms"):
            for key in ("sequence_timeout_ms", "max_sequence_job_queue_size", "max_num_sequence"):
                values.pop(key, None)
        return cls(raw=raw, warnings=tuple(texts.warnings), faults=tuple(texts.faults), **values)


@dataclass(frozen=True)
class _Texts:
    """What is wrong with values."""

    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _policy(value: object) -> str:
    """One of marq's own, in any case, or the name of a plugin."""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value.lower() if value.lower() in ("adaptive", "fixed") else value


def _device_ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(each) is int and 0 <= each <= MAX_INT for each in value):
        raise ValueError
    return tuple(value)


def _mapping(value: object) -> None:
    """Only checks the type; the content has rules of its own."""
    if not isinstance(value, dict):
        raise ValueError


_KEYS = {
    "minWorkers": raised("min_workers"),
    "maxWorkers": integer("max_workers", 0, unset=0),
    "batchSize": raised("batch_size"),
    "maxBatchDelay": integer("max_batch_delay_ms", 0, unset=0),
    "responseTimeout": integer("response_timeout_s", 1),
    "startupTimeout": integer("startup_timeout_s", 1),
    "deviceType": choice("device_type", "cpu", "gpu", cuda="gpu", rocm="gpu", xpu="gpu", mps="gpu"),
    "deviceIds": Rule("device_ids", "a list of device numbers", _device_ids),
    "parallelLevel": integer("parallel_level", 0, unset=0),
    "parallelType": choice("parallel_type", "pp", "tp", "pptp", "custom"),
    "torchrun": Rule("torchrun", "a map", _mapping),
    "maxRetryTimeoutInSec": integer("max_retry_timeout_s", 0),
    "clientTimeoutInMills": integer("client_timeout_ms", 0),
    "jobQueueSize": integer("job_queue_size", 0, unset=0),
    "useJobTicket": boolean("use_job_ticket"),
    "sequenceMaxIdleMSec": integer("sequence_max_idle_ms", 0, unset=0),
    "sequenceTimeoutMSec": integer("sequence_timeout_ms", 0),
    "maxSequenceJobQueueSize": integer("max_sequence_job_queue_size", 1),
    "maxNumSequence": integer("max_num_sequence", 1),
    "sequenceBatching": boolean("sequence_batching"),
    "continuousBatching": boolean("continuous_batching"),
    "asyncCommunication": boolean("async_communication"),
    "useVenv": boolean("use_venv"),
    "batching": Rule("batching", "adaptive, fixed, or the name of a plugin", _policy),
    "maxAttempts": integer("max_attempts", 1),
    "maxRequestsPerReplica": integer("max_requests_per_replica", 0, unset=0),
    "sequenceDrainSec": integer("sequence_drain_s", 0),
    "maxReplicaMemoryMB": integer("max_replica_memory_mb", 0, unset=0),
    "targetQueueMs": integer("target_queue_ms", 1),
    "scaleDownDelaySec": integer("scale_down_delay_s", 0),
    "idleTimeoutSec": integer("idle_timeout_s", 0, unset=0),
    "replicasPerDevice": integer("replicas_per_device", 0, unset=0),
    "webhookUrl": string("webhook_url"),
    "callerTag": string("caller_tag"),
    "callerWeights": string("caller_weights"),
    "callerQuota": integer("caller_quota", 0, unset=0),
}

_TORCHRUN_KEYS = {
    "nnodes": integer("nnodes", 1),
    "nproc-per-node": integer("nproc_per_node", 1),
    "rdzv-backend": string("rdzv_backend"),
    "rdzv-endpoint": string("rdzv_endpoint"),
    "rdzv-conf": string("rdzv_conf"),
    "monitor-interval": integer("monitor_interval_s", 1),
    "node-rank": integer("node_rank", 0),
    "OMP_NUMBER_THREADS": integer("omp_num_threads", 1),
}


# Where a wrong value leaves the default, as in TorchServe. With one of another key the model would answer
# wrongly or run elsewhere than asked, or TorchServe does not know the key.
_HARMLESS = frozenset(
    (
        "minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout",
        "clientTimeoutInMills", "jobQueueSize", *(_TORCHRUN_KEYS.keys() - {"nproc-per-node", "nnodes"}),
    )
)  # fmt: skip


def _read(rules: dict[str, Rule], raw: dict[object, object], prefix: str, texts: _Texts) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, rule in rules.items():
        if key not in raw:
            continue
        try:
            value = rule.convert(raw[key])
        except ValueError:
            given = f"{str(raw[key])[:100]!r}"
            if key in _HARMLESS or raw[key] is None:
                texts.warnings.append(f"{prefix}{key}: {given} is ignored; it must be {rule.allowed}.")
            else:
                texts.faults.append(f"{prefix}{key} must be {rule.allowed}, got {given}")
        else:
            if value is not None:
                values[rule.field] = value
    return values


def _torchrun(raw: dict[object, object], texts: _Texts) -> Torchrun:
    for key in raw:
        if key not in _TORCHRUN_KEYS:
            like = str(key).replace("_", "-").lower()
            hint = f": did you mean {like}?" if like in _TORCHRUN_KEYS else ""
            texts.warnings.append(f"torchrun: unsupported parameter {str(key)[:100]}{hint}")
    return Torchrun(**_read(_TORCHRUN_KEYS, raw, "torchrun.", texts))
