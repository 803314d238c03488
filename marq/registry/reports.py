"""Reports of pools and their replicas, as they are stored in Redis. Their keys are named only here."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

READY = "ready"


@dataclass(frozen=True)
class ReplicaReport:
    """One replica, as its pool sees it."""

    id: int  # its slot in the pool
    pid: int
    device: str  # "cpu", or "cuda:" and the number of the GPU
    state: str  # "loading", "ready", "draining", "stopped"
    started: float  # unix s
    memory: int = 0  # bytes; 0 where the process has ended
    requests: int = 0
    batches: int = 0
    fitting: int = 0  # maximum batch size that fits into GPU memory; 0: no limit is known
    generation: int = 0

    @property
    def is_ready(self) -> bool:
        return self.state == READY


@dataclass(frozen=True)
class PoolReport:
    """A pool; or, before there is one, a node that prepares what the pool needs."""

    node: str
    wanted: int  # number of replicas
    generation: int | None = None  # None while a node prepares
    failures: int = 0  # consecutive: crashes of replicas, or failed preparations
    failing_since: float | None = None  # unix s
    reason: str = ""  # of the last failure, or why replicas are replaced again and again
    cannot_load: bool = False  # the last two failures were alike, and no replica has ever been ready
    preparing: bool | None = None  # None in the report of a pool; False: the preparation has ended
    replicas: tuple[ReplicaReport, ...] = ()
    payloads: str = ""  # the identity of the directory whose payload files its replicas can read; or none
    job_payloads: str = ""  # the id of the store of job files that its replicas can read and write; or none
    reported: float = 0.0  # the heartbeat: unix s of the Redis server's clock

    @property
    def is_prepared(self) -> bool:
        """Whether the node has all that replicas need: a pool runs, or the preparation has succeeded."""
        return not self.preparing and not self.preparation_failed

    @property
    def preparation_failed(self) -> bool:
        return self.preparing is not None and self.failures > 0

    def to_json(self) -> str:
        """A pool's report has no key `preparing`, that of a preparation no `generation`."""
        left_out = {
            key
            for key in ("generation", "preparing", "payloads", "job_payloads")
            if getattr(self, key) in (None, "")
        }
        return json.dumps({key: value for key, value in asdict(self).items() if key not in left_out})

    @classmethod
    def from_json(cls, text: bytes | str) -> "PoolReport":
        """Ignores unknown keys: another version of marq may have written the report."""
        stored = json.loads(text)
        replicas = tuple(ReplicaReport(**_known(ReplicaReport, each)) for each in stored.get("replicas", ()))
        return cls(**{**_known(cls, stored), "replicas": replicas})


def _known(kind: type[PoolReport | ReplicaReport], stored: Mapping[str, object]) -> dict[str, Any]:
    return {field.name: stored[field.name] for field in fields(kind) if field.name in stored}
