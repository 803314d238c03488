"""The registry at one moment, as values: models, versions, default versions, and the reports of pools."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from marq.errors import ModelNotFound, ModelVersionNotFound
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.sizes import decisions
from marq.registry.sizes.decisions import Decision
from marq.registry.sizes.hosts import Hosts
from marq.registry.spec import ModelSpec

PARSED = 10_000  # specs that are kept parsed: most reads find the texts of the read before


@dataclass(frozen=True)
class Models:
    """The registry at one moment."""

    specs: dict[str, dict[str, ModelSpec]]  # name -> version -> spec
    defaults: dict[str, str]
    mark: bytes = b""  # of the Redis that holds it; empty: it has none yet
    decisions: dict[str, Decision] = field(default_factory=dict)  # sizes of elastic versions, by their keys

    def __iter__(self) -> Iterator[ModelSpec]:
        return (spec for versions in self.specs.values() for spec in versions.values())

    def size(self, spec: ModelSpec) -> int:
        """How many replicas the version is to have now."""
        return decisions.size(spec, self.decisions)

    def versions(self, name: str) -> dict[str, ModelSpec]:
        """All versions of a model. Raises ModelNotFound."""
        try:
            return self.specs[name]
        except KeyError:
            raise ModelNotFound(f"Model not found: {name}") from None

    def get(self, name: str, version: str | None = None) -> ModelSpec:
        """The version, or the default one. Raises ModelNotFound or ModelVersionNotFound."""
        versions = self.versions(name)
        wanted = version or self.defaults.get(name, "")
        if wanted not in versions:
            raise ModelVersionNotFound(f"Model version: {wanted} does not exist for model: {name}")
        return versions[wanted]


@dataclass(frozen=True)
class Snapshot:
    """The registry, and the reports of the pools that are alive, at one moment."""

    models: Models
    reports: dict[str, list[PoolReport]]  # by the key of the version; versions without any are missing
    moment: float  # unix s of the Redis server's clock
    hosts: Hosts = field(default_factory=dict)

    def of(self, spec: ModelSpec) -> list[PoolReport]:
        """The reports of a version, in the order of the pools' names."""
        return self.reports.get(spec.key, [])

    def replicas(self, spec: ModelSpec) -> list[ReplicaReport]:
        """The replicas of all these pools."""
        return [replica for report in self.of(spec) for replica in report.replicas]


def models_of(
    stored: Mapping[bytes, bytes],
    defaults: Mapping[bytes, bytes],
    sizes: Mapping[bytes, bytes],
    mark: bytes | None,
) -> Models:
    """The registry of the hashes, and the mark, that Redis keeps of it."""
    specs: dict[str, dict[str, ModelSpec]] = {}
    for spec in map(_parse, stored.values()):
        specs.setdefault(spec.name, {})[spec.version] = spec
    return Models(
        specs,
        {name.decode(): version.decode() for name, version in defaults.items()},
        mark or b"",
        {key.decode(): Decision.from_json(text) for key, text in sizes.items()},
    )


@lru_cache(PARSED)
def _parse(text: bytes) -> ModelSpec:
    return ModelSpec.from_json(text)
