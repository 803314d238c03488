"""Which device a replica gets, which cores, and how many threads."""

import os
from collections.abc import Sequence
from pathlib import Path

from marq.registry.spec import ModelSpec

NUMA = Path("/sys/devices/system/node")


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


def group_for(spec: ModelSpec, slot: int, available: Sequence[int]) -> list[int]:
    """The GPUs of a replica with `parallelLevel`: the next ones, without regard to other models.

    Empty where this host has fewer: then the group runs on the CPU.
    """
    level = spec.parallel_level
    if not level or spec.device_type == "cpu":
        return []
    there = [gpu for gpu in spec.device_ids if gpu in available] or list(available)
    if len(there) < level:
        return []
    first = slot % (len(there) // level) * level
    return there[first : first + level]


def visible(group: Sequence[int]) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES of the processes of a group; `group` counts what this process sees."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else []
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[gpu].strip() if names else str(gpu) for gpu in group)}


def pinned_cores(number: int, replicas: int, nodes: Sequence[Sequence[int]]) -> list[int]:
    """The cores of one of so many CPU replicas: equal shares, each within one NUMA node.

    `nodes`: the cores of each NUMA node. More replicas than cores share them.
    """
    place, row = divmod(number, len(nodes))
    there = nodes[row]
    share = max(1, len(there) // max(1, -(-replicas // len(nodes))))
    first = place * share % max(1, len(there) - share + 1)
    return list(there[first : first + share])


def numa_nodes() -> list[list[int]]:
    """The cores that this process may use, by NUMA node; all in one where the host does not say."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    nodes = [
        [core for core in _listed(file.read_text()) if core in allowed]
        for file in sorted(NUMA.glob("node*/cpulist"))
    ]
    return [node for node in nodes if node] or ([allowed] if allowed else [])


def _listed(text: str) -> list[int]:
    """The numbers of a list like `0-3,8`."""
    cores: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores


def threads_per_replica(replicas: int) -> int:
    """A CPU replica's share of the cores, at least one thread."""
    return max(1, cores() // max(1, replicas))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
