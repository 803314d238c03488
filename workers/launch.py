"""The settings with which a pool and a replica start, as JSON in one environment variable each."""

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from marq.forms import MOST_FIELDS
from marq.payloads.job_files import JobFiles
from marq.payloads.place import Place
from marq.registry.consumers import pool_name
from marq.registry.spec import ModelSpec

POOL_VARIABLE = "MARQ_POOL"
REPLICA_VARIABLE = "MARQ_REPLICA"
SEQUENCE_HEADERS = ("ts_request_sequence_id", "ts_request_sequence_start", "ts_request_sequence_end")
SEQUENCE_VARIABLES = ("TS_REQUEST_SEQUENCE_ID", "TS_REQUEST_SEQUENCE_START", "TS_REQUEST_SEQUENCE_END")
BATCHES_IN_FLIGHT = 256  # of one replica whose handler is a coroutine function


@dataclass(frozen=True)
class PoolSpec:
    """One pool: one model version on one host."""

    model: ModelSpec
    node: str  # the node that started it
    owner: str  # the same node as the owner of its name, with its token
    unpacked: str  # the archive's files as they are
    model_dir: str  # this model version's own copy of them, or the directory that it is
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
    device_kind: str = "cuda"  # as torch names the devices: "cuda", "xpu", "mps"
    pinned_among: int = 0  # CPU replicas of this host that are pinned to shares of the cores; 0: they are not
    python: str = sys.executable  # the interpreter of replicas
    dependency_dir: str = ""  # on their sys.path behind the model directory
    hidden_variables: str = ""  # a regular expression of environment variables that replicas do not get
    log_on_console: bool = False  # as well as in `log_file`
    metrics_mode: str = "log"
    metrics_config: str = ""  # the file; empty: marq's own
    metrics_auto_detect: bool = False  # whether metrics that the file does not list are kept, too
    payload_dir: str = ""  # large bodies and answers; empty: they travel through Redis
    payload_threshold: int = 0  # larger answers are files
    job_payload_dir: str = ""  # the same of jobs
    job_url_hosts: str = ""  # from which bodies of jobs are fetched, and to which results are put
    max_fetched_size: int = 2**30
    metrics_location: str = ""  # where metrics logs are; empty: beside `log_file`
    max_form_fields: int = MOST_FIELDS
    sequence_headers: list[str] = field(
        default_factory=lambda: list(SEQUENCE_HEADERS)
    )  # names: id, start, end

    @property
    def metrics_dir(self) -> Path:
        return Path(self.metrics_location or Path(self.log_file).parent)

    @property
    def place(self) -> Place | None:
        """The place of the payload files that its replicas read and write."""
        if not self.payload_dir:
            return None
        jobs = self.job_payload_dir and JobFiles(Path(self.job_payload_dir), self.payload_threshold)
        return Place(Path(self.payload_dir), self.payload_threshold, 0, jobs or None)

    @property
    def paths(self) -> list[Path]:
        """All that it uses of this host's disk."""
        return [Path(path) for path in (self.unpacked, self.model_dir, self.dependency_dir, self.python)]

    @property
    def name(self) -> str:
        """The pool's name: the name of its Celery worker."""
        return pool_name(self.model, self.node)

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
        return "cpu" if self.gpu is None else f"{self.pool.device_kind}:{self.gpu}"

    def to_environment(self) -> dict[str, str]:
        """With the variables in which TorchServe's context finds the names of the headers of sequences."""
        names = dict(zip(SEQUENCE_VARIABLES, self.pool.sequence_headers, strict=True))
        return {REPLICA_VARIABLE: json.dumps(asdict(self)), **names}

    @classmethod
    def from_environment(cls) -> "ReplicaSpec":
        data = json.loads(os.environ.pop(REPLICA_VARIABLE))
        return cls(**{**data, "pool": PoolSpec.from_dict(data["pool"])})


def rows_at_a_time(model: ModelSpec) -> int:
    """The most rows that one replica of the model runs at the same time."""
    return model.batch_size * (BATCHES_IN_FLIGHT if model.async_communication else 1)
