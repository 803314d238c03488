"""How many replicas an elastic model version has, as it was decided last; kept apart from its settings."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from marq.registry.spec import ModelSpec


@dataclass(frozen=True)
class Decision:
    """The number of replicas, and the numbers that it came from."""

    replicas: int
    moment: float = 0.0  # unix s of the Redis server's clock
    before: int = 0  # replicas
    waiting: int = 0  # requests that no replica had taken
    arrivals: float = 0.0  # requests/s
    rate: float = 0.0  # requests/s that one replica answers; 0: unknown
    why: str = ""  # one sentence without numbers

    @property
    def reason(self) -> str:
        """The sentence, and the numbers."""
        rate = f"{self.rate:.1f} requests/s for each replica" if self.rate else "rate of a replica unknown"
        return f"{self.why} ({self.waiting} waiting, {self.arrivals:.1f} requests/s arrive, {rate})"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> "Decision":
        """Ignores unknown keys: another version of marq may have written it."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text).items() if name in known})


def size(spec: ModelSpec, decisions: Mapping[str, Decision]) -> int:
    """How many replicas the version is to have now; `decisions` by the versions' keys."""
    decision = decisions.get(spec.key)
    if decision is None or not spec.is_elastic:
        return spec.min_workers
    return min(spec.max_workers, max(spec.min_workers, decision.replicas))
