"""Which device a replica gets, and how many threads."""

import os
from collections.abc import Sequence

from marq.registry.spec import ModelSpec


def device_for(spec: ModelSpec, slot: int, available: Sequence[int], first: int) -> int | None:
    """The GPU of a replica slot, None for CPU.

    `deviceIds` are used in their order, round robin; otherwise all GPUs, starting with number `first`.
    """
    if spec.device_type == "cpu" or not available:
        return None
    chosen = [gpu for gpu in spec.device_ids if gpu in available]
    if chosen:
        return chosen[slot % len(chosen)]
    return available[(first + slot) % len(available)]


def threads_per_replica(replicas: int) -> int:
    """A CPU replica's share of the cores, at least one thread."""
    return max(1, cores() // max(1, replicas))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
