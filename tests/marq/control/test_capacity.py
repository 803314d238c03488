import os

import psutil
import pytest
from thread_replica import make_spec

from marq import keys
from marq.control.capacity import ALWAYS, Capacity
from marq.errors import BadRequest, InvalidModel
from marq.registry.sizes import hosts
from marq.registry.sizes.hosts import Device, Host


@pytest.fixture
def host(registry, monkeypatch):
    """A host by its cores, its memory and its GPUs: host(2, 8)."""

    def host(cores: int, memory_gb: int, gpus: int = 0) -> Capacity:
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        memory = psutil.virtual_memory()._replace(total=memory_gb << 30)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        return Capacity(registry, gpus)

    return host


def nodes(registry, count: int) -> None:
    registry.redis.zadd(keys.NODES, {f"node {n}": registry.now() for n in range(count)})


def limit(capacity: Capacity) -> int:
    """The largest number that is not refused."""
    for replicas in range(100_000):
        try:
            capacity.check(replicas)
        except BadRequest:
            return replicas - 1
    raise AssertionError("no number is refused")


@pytest.mark.parametrize(
    ("cores", "memory_gb", "gpus", "most"),
    [(2, 8, 0, ALWAYS), (16, 64, 0, 1024), (16, 64, 8, 1536), (16, 16, 8, 512), (1, 1, 0, ALWAYS)],
)
def test_the_limit_follows_cores_devices_and_memory(host, cores, memory_gb, gpus, most):
    assert limit(host(cores, memory_gb, gpus)) == most


def test_each_live_node_counts_as_a_host(host, registry):
    capacity = host(2, 8)
    nodes(registry, 3)
    capacity.check(3 * ALWAYS)
    with pytest.raises(BadRequest, match="769 replicas") as refused:
        capacity.check(3 * ALWAYS + 1)
    assert refused.value.message == (
        "769 replicas are more than the 768 that the cores, memory and devices of 3 hosts allow for one "
        "model version. Add force=true if you mean it."
    )


def test_a_replica_that_needs_more_gpus_than_any_host_has_is_refused(host, registry):
    capacity, group = host(2, 8), {"parallel_type": "tp", "parallel_level": 4, "ranks": 4}
    capacity.check_devices(make_spec("m", **group))  # no host has a GPU: the processes run on the CPU
    nodes(registry, 1)
    hosts.publish(registry.redis, "node 0", Host("cuda", (Device(0), Device(1)), cores=8))
    with pytest.raises(InvalidModel, match="a replica needs 4 GPUs") as refused:
        capacity.check_devices(make_spec("m", **group))
    assert refused.value.message.endswith("Add force=true if a host with more joins later.")
    capacity.check_devices(make_spec("m", device_type="cpu", **group))
    capacity.check_devices(make_spec("m", **{**group, "parallel_level": 2}))


def test_moderate_numbers_are_not_looked_at(host, round_trips):
    host(1, 1).check(ALWAYS)
    assert round_trips == []
