"""`model-config.yaml`: the keys that the server reads. All others belong to the handler."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from archive import bounded_yaml

_MAX_INT = 2**31 - 1  # TorchServe reads Java ints


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
class _Rule:
    """How a key is read: `convert` returns the value to use, or raises ValueError if it is not `allowed`."""

    field: str
    allowed: str
    convert: Callable[[object], object]


@dataclass(frozen=True)
class _Texts:
    """What is wrong with values."""

    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _integer(field: str, least: int, *, unset: int | None = None) -> _Rule:
    """An integer of at least `least`; `unset` counts as not given."""

    def convert(value: object) -> int | None:
        if not _is_int(value) or value < least:
            raise ValueError
        return None if value == unset else value

    return _Rule(field, f"an integer of at least {least}", convert)


def _raised(field: str) -> _Rule:
    """An integer; one below 1 counts as 1."""

    def convert(value: object) -> int:
        if not _is_int(value):
            raise ValueError
        return max(1, value)

    return _Rule(field, "an integer", convert)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and -_MAX_INT - 1 <= value <= _MAX_INT


def _boolean(field: str) -> _Rule:
    def convert(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return _Rule(field, "true or false", convert)


def _string(field: str) -> _Rule:
    def convert(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        return value

    return _Rule(field, "a string", convert)


def _choice(field: str, *choices: str, **others: str) -> _Rule:
    """`others`: further names of a choice."""

    def convert(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in (*choices, *others):
            raise ValueError
        return others.get(value.lower(), value.lower())

    return _Rule(field, "one of " + ", ".join((*choices, *others)), convert)


def _policy(value: object) -> str:
    """One of marq's own, in any case, or the name of a plugin."""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value.lower() if value.lower() in ("adaptive", "fixed") else value


def _device_ids(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(each) is int and 0 <= each <= _MAX_INT for each in value):
        raise ValueError
    return tuple(value)


def _mapping(value: object) -> None:
    """Only checks the type; the content has rules of its own."""
    if not isinstance(value, dict):
        raise ValueError


_KEYS = {
    "minWorkers": _raised("min_workers"),
    "maxWorkers": _integer("max_workers", 0, unset=0),
    "batchSize": _raised("batch_size"),
    "maxBatchDelay": _integer("max_batch_delay_ms", 0, unset=0),
    "responseTimeout": _integer("response_timeout_s", 1),
    "startupTimeout": _integer("startup_timeout_s", 1),
    "deviceType": _choice("device_type", "cpu", "gpu", cuda="gpu", rocm="gpu", xpu="gpu", mps="gpu"),
    "deviceIds": _Rule("device_ids", "a list of device numbers", _device_ids),
    "parallelLevel": _integer("parallel_level", 0, unset=0),
    "parallelType": _choice("parallel_type", "pp", "tp", "pptp", "custom"),
    "torchrun": _Rule("torchrun", "a map", _mapping),
    "maxRetryTimeoutInSec": _integer("max_retry_timeout_s", 0),
    "clientTimeoutInMills": _integer("client_timeout_ms", 0),
    "jobQueueSize": _integer("job_queue_size", 0, unset=0),
    "useJobTicket": _boolean("use_job_ticket"),
    "sequenceMaxIdleMSec": _integer("sequence_max_idle_ms", 0, unset=0),
    "sequenceTimeoutMSec": _integer("sequence_timeout_ms", 0),
    "maxSequenceJobQueueSize": _integer("max_sequence_job_queue_size", 1),
    "maxNumSequence": _integer("max_num_sequence", 1),
    "sequenceBatching": _boolean("sequence_batching"),
    "continuousBatching": _boolean("continuous_batching"),
    "asyncCommunication": _boolean("async_communication"),
    "useVenv": _boolean("use_venv"),
    "batching": _Rule("batching", "adaptive, fixed, or the name of a plugin", _policy),
    "maxAttempts": _integer("max_attempts", 1),
    "maxRequestsPerReplica": _integer("max_requests_per_replica", 0, unset=0),
    "sequenceDrainSec": _integer("sequence_drain_s", 0),
    "maxReplicaMemoryMB": _integer("max_replica_memory_mb", 0, unset=0),
    "targetQueueMs": _integer("target_queue_ms", 1),
    "scaleDownDelaySec": _integer("scale_down_delay_s", 0),
    "idleTimeoutSec": _integer("idle_timeout_s", 0, unset=0),
    "replicasPerDevice": _integer("replicas_per_device", 0, unset=0),
    "webhookUrl": _string("webhook_url"),
    "callerTag": _string("caller_tag"),
    "callerWeights": _string("caller_weights"),
    "callerQuota": _integer("caller_quota", 0, unset=0),
}

_TORCHRUN_KEYS = {
    "nnodes": _integer("nnodes", 1),
    "nproc-per-node": _integer("nproc_per_node", 1),
    "rdzv-backend": _string("rdzv_backend"),
    "rdzv-endpoint": _string("rdzv_endpoint"),
    "rdzv-conf": _string("rdzv_conf"),
    "monitor-interval": _integer("monitor_interval_s", 1),
    "node-rank": _integer("node_rank", 0),
    "OMP_NUMBER_THREADS": _integer("omp_num_threads", 1),
}


# Where a wrong value leaves the default, as in TorchServe. With one of another key the model would answer
# wrongly or run elsewhere than asked, or TorchServe does not know the key.
_HARMLESS = frozenset(
    (
        "minWorkers", "maxWorkers", "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout",
        "clientTimeoutInMills", "jobQueueSize", *(_TORCHRUN_KEYS.keys() - {"nproc-per-node", "nnodes"}),
    )
)  # fmt: skip


def _read(rules: dict[str, _Rule], raw: dict[object, object], prefix: str, texts: _Texts) -> dict[str, Any]:
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
