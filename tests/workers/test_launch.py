from dataclasses import replace
from pathlib import Path

import pytest

from marq.registry.consumers import consumer_name, pool_of
from marq.registry.sizes.hosts import Host
from marq.registry.spec import ModelSpec
from workers.launch import PoolSpec, ReplicaSpec
from workers.scoreboard import path_of


@pytest.fixture
def pool(make_pool):
    model = ModelSpec("größe", "1.0/b c", "m.mar", "/m.mar", "h.py", device_ids=[1, 0], batch_size=8)
    return make_pool(model, gpus=[0, 1], node="host-1")


def test_a_pool_reads_what_its_node_told_it(pool, monkeypatch):
    for name, value in pool.to_environment().items():
        monkeypatch.setenv(name, value)
    assert PoolSpec.from_environment() == pool


def test_a_replica_reads_what_its_pool_told_it_once(pool, monkeypatch):
    spec = ReplicaSpec(pool, 3, 1, "/run/board")
    for name, value in spec.to_environment().items():
        monkeypatch.setenv(name, value)
    assert ReplicaSpec.from_environment() == spec
    with pytest.raises(KeyError):  # what a handler starts must not take itself for a replica
        ReplicaSpec.from_environment()


def test_a_replica_names_its_device(pool):
    spec = ReplicaSpec(pool, 0, None, "")
    assert (spec.device, replace(spec, gpu=1).device) == ("cpu", "cuda:1")


def test_a_pool_is_named_for_its_model_and_its_node(pool):
    assert pool.name == "größe-1.0/b c@host-1"


@pytest.mark.parametrize("name", ["m-1.0@host", "größe-1.0/b c@host-1", "a/b/c"])
def test_a_consumer_tells_its_pool(name):
    assert pool_of(consumer_name(name, 2, 4711)) == name


def test_replicas_have_boards_and_consumers_of_their_own(pool):
    assert len({consumer_name(pool.name, slot, pid) for slot in (0, 1) for pid in (10, 11)}) == 4
    assert len({path_of(Path("/run"), pool.name, slot) for slot in range(3)}) == 3
    assert Path("/run") in path_of(Path("/run"), pool.name, 0).parents


@pytest.mark.parametrize(
    ("kind", "device"), [("cuda", "cuda:1"), ("rocm", "cuda:1"), ("xpu", "xpu:1"), ("mps", "mps:1")]
)
def test_a_device_has_torchs_name(pool, kind, device):
    found = ReplicaSpec(replace(pool, device_kind=Host(kind).device_kind), 0, 1, "/run/board")
    assert found.device == device
    assert ReplicaSpec(pool, 0, None, "/run/board").device == "cpu"
