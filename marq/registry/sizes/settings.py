"""The settings of a model version that concern the number of its replicas."""

from dataclasses import dataclass
from typing import Annotated

from marq.registry.model_replica_settings import ReplicaSettings
from marq.registry.setting import Setting


@dataclass(frozen=True)
class ScalingSettings(ReplicaSettings):
    """The third part of a ModelSpec."""

    target_queue_ms: Annotated[
        int,
        Setting(
            "Time in milliseconds that requests may wait before replicas are added.",
            replaces_replicas=False,
            yaml="targetQueueMs",
            torchserve=False,
        ),
    ] = 1000
    scale_down_delay_s: Annotated[
        int,
        Setting(
            "Time in seconds for which fewer replicas must have been enough before some are stopped.",
            replaces_replicas=False,
            yaml="scaleDownDelaySec",
            torchserve=False,
        ),
    ] = 120
    idle_timeout_s: Annotated[
        int,
        Setting(
            "Time in seconds without a request after which the last replica is stopped; 0 means never.",
            replaces_replicas=False,
            yaml="idleTimeoutSec",
            torchserve=False,
        ),
    ] = 0
    replicas_per_device: Annotated[
        int,
        Setting(
            "Maximum number of replicas on one GPU; 0 means no limit.",
            replaces_replicas=False,
            yaml="replicasPerDevice",
            torchserve=False,
        ),
    ] = 0

    @property
    def may_rest(self) -> bool:
        """Whether it has no replica while no request comes; the first request starts one."""
        return self.min_workers == 0 < self.max_workers and self.idle_timeout_s > 0

    @property
    def is_elastic(self) -> bool:
        """Whether the number of replicas follows the queue, between `min_workers` and `max_workers`."""
        return self.max_workers > self.min_workers and (self.min_workers > 0 or self.may_rest)
