"""What the registry keeps of one model version."""

import json
from dataclasses import asdict, dataclass, field, fields


@dataclass(frozen=True)
class ModelSpec:
    """One registered model version, with every setting resolved."""

    name: str
    version: str
    url: str  # as the client gave it
    archive: str  # path of the archive on hosts that run it
    handler: str
    runtime: str = "python"
    envelope: str = ""
    batch_size: int = 1
    max_batch_delay_ms: int = 100
    batching: str = "adaptive"
    async_communication: bool = False  # the handler is a coroutine function
    min_workers: int = 0
    max_workers: int = 0
    response_timeout_s: int = 120
    startup_timeout_s: int = 120
    max_retry_timeout_s: int = 300
    client_timeout_ms: int = 0
    job_queue_size: int = 100
    max_attempts: int = 3
    max_requests_per_replica: int = 0  # a replica is replaced after so many; 0: never
    max_replica_memory_mb: int = 0  # or when it has grown to so much; 0: never
    generation: int = 0  # replicas of an earlier one are replaced
    device_type: str = ""
    device_ids: list[int] = field(default_factory=list)
    parallel_type: str = ""
    parallel_level: int = 0
    loaded_at_startup: bool = False
    requirements: str = ""  # the file of the archive whose packages are installed
    use_venv: bool = False  # whether replicas run in an environment of their own

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def has_dependencies(self) -> bool:
        """Whether something has to be installed before replicas can start."""
        return bool(self.requirements) or self.use_venv

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> "ModelSpec":
        """Reads a spec; keys that this version of marq does not know are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in json.loads(text).items() if k in known})


def cannot_load(spec: ModelSpec, reason: str) -> str:
    """What clients are told of a model whose replicas end before, or soon after, they are ready."""
    lines = [line for line in reason.splitlines() if line.strip()]
    return f'Model "{spec.name}" Version {spec.version} cannot be loaded: {lines[-1] if lines else "unknown"}'
