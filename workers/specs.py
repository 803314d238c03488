"""What a pool and a replica are told when they start, as JSON in one environment variable each."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marq.registry import ModelSpec

POOL_VARIABLE = "MARQ_POOL"
REPLICA_VARIABLE = "MARQ_REPLICA"


@dataclass(frozen=True)
class PoolSpec:
    """One pool: one model version on one host."""

    model: ModelSpec
    node: str  # the node that started it
    model_dir: str  # the unpacked archive
    redis_url: str
    run_dir: str  # scoreboards
    log_file: str
    gpus: list[int]
    first_device: int  # where the round robin over `gpus` starts
    threads: int  # OMP_NUM_THREADS of CPU replicas
    max_response_size: int
    job_result_ttl_ms: int
    decode_input: bool
    limit_max_image_pixels: bool

    @property
    def name(self) -> str:
        """The pool's name: the name of its Celery worker."""
        return f"{self.model.name}-{self.model.version}@{self.node}"

    def to_environment(self) -> dict[str, str]:
        return {POOL_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> "PoolSpec":
        return cls.from_dict(json.loads(os.environ[POOL_VARIABLE]))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PoolSpec":
        return cls(**{**data, "model": ModelSpec(**data["model"])})


@dataclass(frozen=True)
class ReplicaSpec:
    """One replica of a pool."""

    pool: PoolSpec
    slot: int
    gpu: int | None  # None: CPU
    scoreboard: str

    @property
    def device(self) -> str:
        return "cpu" if self.gpu is None else f"cuda:{self.gpu}"

    def to_environment(self) -> dict[str, str]:
        return {REPLICA_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> "ReplicaSpec":
        data = json.loads(os.environ.pop(REPLICA_VARIABLE))
        return cls(**{**data, "pool": PoolSpec.from_dict(data["pool"])})


def consumer_name(pool: str, slot: int, pid: int) -> str:
    """A replica's name in the consumer groups."""
    return f"{pool}/{slot}/{pid}"


def scoreboard_path(run_dir: str, pool: str, slot: int) -> Path:
    return Path(run_dir) / f"{pool}.{slot}.board"


def pool_of(consumer: str) -> str:
    """The pool that a consumer belongs to."""
    return consumer.rsplit("/", 2)[0]
