"""Which devices this host has, and which one a replica gets."""

import logging
import os
from collections.abc import Sequence

from marq.registry import ModelSpec

log = logging.getLogger(__name__)


def gpus(limit: int | None = None) -> list[int]:
    """The CUDA device ids of this host as handlers count them, at most `limit` of them.

    Honours CUDA_VISIBLE_DEVICES. Asks NVML, not torch: importing torch costs hundreds of megabytes.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = _count_gpus() if visible is None else len([part for part in visible.split(",") if part.strip()])
    return list(range(count if limit is None else min(count, limit)))


def _count_gpus() -> int:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no GPU: %s", error)
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, replicas))
