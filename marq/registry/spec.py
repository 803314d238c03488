"""One model version with all its settings."""

import json
from dataclasses import asdict, dataclass

from marq.registry.setting import settings_of
from marq.registry.sizes.settings import ScalingSettings

LARGEST_WEIGHT, MOST_WEIGHTS = 1000, 1000


@dataclass(frozen=True)
class ModelSpec(ScalingSettings):
    """One registered model version, with every setting resolved.

    A new setting needs only a field in one of the bases, and a rule in archive/model_config.py if that file
    may set it. Describe shows the fields in their order, which is TorchServe's.
    """

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def has_dependencies(self) -> bool:
        """Whether something has to be installed before replicas can start."""
        return bool(self.requirements) or self.use_venv

    @property
    def has_seats(self) -> bool:
        """Whether each replica has a lane of its own, for the requests that are assigned to it."""
        return self.sequence_batching or self.use_job_ticket

    @property
    def caller_rules(self) -> dict[str, str]:
        """How callers share the lanes, as callers.lua reads it; empty where they do not.

        Raises ValueError for `caller_weights` of another form.
        """
        if not self.caller_tag:
            return {}
        rules = {"tag": self.caller_tag, "quota": str(self.caller_quota)}
        for part in filter(None, self.caller_weights.split(",")):
            caller, _, weight = part.strip().rpartition("=")
            if not caller or not 0 < float(weight) <= LARGEST_WEIGHT or len(rules) > MOST_WEIGHTS:
                raise ValueError(part)
            rules[f"weight:{caller}"] = weight
        return rules

    @property
    def weights_of_callers(self) -> dict[str, float]:
        """Those of the callers that have one. Raises ValueError as `caller_rules`."""
        rules = self.caller_rules.items()
        return {name.partition(":")[2]: float(value) for name, value in rules if name.startswith("weight:")}

    def needs_new_replicas(self, running: "ModelSpec") -> bool:
        """Whether replicas that run with these other settings must be replaced at once."""
        changed = (each.name for each in SETTINGS if each.replaces_replicas)
        return any(getattr(self, name) != getattr(running, name) for name in changed)

    def is_configured_like(self, stored: "ModelSpec") -> bool:
        """Whether the settings are the same, except those that a joining server keeps."""
        configured = (each.name for each in SETTINGS if not each.kept_on_join)
        return all(getattr(self, name) == getattr(stored, name) for name in configured)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> "ModelSpec":
        """Reads a spec; keys that this version of marq does not know are ignored."""
        known = {each.name for each in SETTINGS}
        return cls(**{k: v for k, v in json.loads(text).items() if k in known})


SETTINGS = settings_of(ModelSpec)
