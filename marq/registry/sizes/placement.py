"""Which host may run how many replicas of a version: pure functions of its settings and the hosts' devices.

Versions with `deviceType: gpu` go to hosts with GPUs only, as long as a host of the cluster has one. Where
none has, they run on the CPU, as in TorchServe. Other versions may run on every host: those without a
`deviceType` use GPUs where there are some.
"""

from marq.registry.sizes.hosts import Host, Hosts
from marq.registry.snapshot import Snapshot
from marq.registry.spec import ModelSpec

UNLIMITED = 1 << 30


def devices(spec: ModelSpec, host: Host) -> int:
    """How many GPUs of the host the version may use. Without any of its `deviceIds` there, it may use all.

    With `parallelLevel`, so many together count as one.
    """
    if spec.device_type == "cpu":
        return 0
    chosen = [device for device in host.devices if device.id in spec.device_ids]
    return len(chosen or host.devices) // max(1, spec.parallel_level)


def most(spec: ModelSpec, hosts: Hosts) -> int:
    """The replicas for which there are devices.

    An elastic version grows beyond `minWorkers` to one replica for each device, unless `replicasPerDevice`
    allows another number.
    """
    if not hosts:
        return UNLIMITED
    on_each = spec.replicas_per_device or (1 if spec.is_elastic else UNLIMITED)
    limit = min(UNLIMITED, sum(_rooms(spec, on_each, hosts).values()))
    return limit if spec.replicas_per_device else max(spec.min_workers, limit)


def share(spec: ModelSpec, size: int, hosts: Hosts, node: str) -> int:
    """The most slots that this node may hold: as even as devices allow, and never too few for all slots."""
    there = sum(devices(spec, host) for host in hosts.values())
    on_each = -(-size // there) if there and _needs_device(spec, hosts) else UNLIMITED
    rooms = _rooms(spec, min(on_each, spec.replicas_per_device or UNLIMITED), hosts)
    placed = min(size, sum(rooms.values()))
    level = -(-size // max(1, len(rooms)))
    while sum(min(level, room) for room in rooms.values()) < placed:
        level += 1
    return min(rooms.get(node, UNLIMITED), level)


def too_few(spec: ModelSpec, hosts: Hosts) -> str:
    """A sentence if a replica needs more GPUs than any host has for it; empty where no host has a GPU."""
    with_gpus = [host for host in hosts.values() if host.devices]
    if spec.device_type == "cpu" or not with_gpus or any(devices(spec, host) for host in with_gpus):
        return ""
    largest = max(len(host.devices) for host in with_gpus)
    return (
        f"a replica needs {spec.parallel_level} GPUs (parallelLevel or nproc-per-node), and no host has so "
        f"many for it: the largest has {largest}. Lower the number; with deviceType: cpu it uses none"
    )


def unknown_ids(spec: ModelSpec, hosts: Hosts) -> str:
    """A sentence if no host with GPUs has any of the version's `deviceIds`; empty where no host has a GPU."""
    there = sorted({device.id for host in hosts.values() for device in host.devices})
    if not spec.device_ids or spec.device_type == "cpu" or not there or set(spec.device_ids) & set(there):
        return ""
    numbers = ", ".join(map(str, there))
    return f"deviceIds has no effect: the GPUs are {numbers}, not {spec.device_ids}; all may be used"


def unplaced(spec: ModelSpec, size: int, hosts: Hosts) -> str:
    """A sentence about the replicas for which there is no device; empty if there is none of them."""
    if size and _needs_device(spec, hosts) and (reason := too_few(spec, hosts)):
        return f"{spec.name} {spec.version}: {size} of {size} replicas have no device: {reason}"
    limit = most(spec, hosts)
    if size <= limit:
        return ""
    there = sum(devices(spec, host) for host in hosts.values())
    on = ", ".join(node for node, host in hosts.items() if host.devices)
    return (
        f"{spec.name} {spec.version}: {size - limit} of {size} replicas have no device: replicasPerDevice is "
        f"{spec.replicas_per_device}, and the cluster has {there} GPUs for it (on {on})"
    )


def all_unplaced(snapshot: Snapshot) -> list[str]:
    """The sentences about all versions."""
    models = snapshot.models
    found = (unplaced(spec, models.size(spec), snapshot.hosts) for spec in models)
    return [sentence for sentence in found if sentence]


def _needs_device(spec: ModelSpec, hosts: Hosts) -> bool:
    return spec.device_type == "gpu" and any(host.devices for host in hosts.values())


def _rooms(spec: ModelSpec, on_each: int, hosts: Hosts) -> dict[str, int]:
    """The most replicas for each host, with so many on each device."""
    elsewhere = 0 if _needs_device(spec, hosts) else UNLIMITED
    there = {node: devices(spec, host) for node, host in hosts.items()}
    return {node: min(UNLIMITED, on_each * count) if count else elsewhere for node, count in there.items()}
