import os

import pytest

from marq.registry.spec import ModelSpec
from workers import devices as module
from workers.devices import device_for, group_for, numa_nodes, pinned_cores, threads_per_replica, visible


def devices(available, first=0, slots=5, **settings):
    spec = ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py", **settings)
    return [device_for(spec, slot, available, first) for slot in range(slots)]


def test_replicas_take_the_gpus_in_turns():
    assert devices([0, 1, 2]) == [0, 1, 2, 0, 1]


def test_another_model_starts_where_the_last_one_ended():
    assert devices([0, 1, 2], first=2) == [2, 0, 1, 2, 0]


def test_a_model_may_name_its_gpus_in_its_own_order():
    assert devices([0, 1, 2, 3], first=1, device_ids=[3, 1]) == [3, 1, 3, 1, 3]


def test_a_gpu_that_is_not_here_is_left_out():
    assert devices([0, 1], device_ids=[7, 1]) == [1] * 5


def test_where_none_of_the_named_gpus_is_here_all_are_used():
    assert devices([0, 1], device_ids=[7]) == [0, 1, 0, 1, 0]


def test_a_model_may_ask_for_the_cpu():
    assert devices([0, 1], device_type="cpu", device_ids=[1]) == [None] * 5


@pytest.mark.parametrize("kind", ["", "gpu"])
def test_a_host_without_gpus_runs_on_the_cpu(kind):
    assert devices([], device_type=kind, device_ids=[0]) == [None] * 5


def test_replicas_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert [threads_per_replica(replicas) for replicas in (0, 1, 2, 3, 8, 100)] == [8, 8, 4, 2, 1, 1]


ONE_NODE, TWO_NODES = [list(range(8))], [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]


@pytest.mark.parametrize(
    ("replicas", "nodes", "expected"),
    [
        (2, ONE_NODE, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (3, ONE_NODE, [[0, 1], [2, 3], [4, 5]]),
        (2, TWO_NODES, TWO_NODES),
        (4, TWO_NODES, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]),
        (3, [[0, 1]], [[0], [1], [0]]),  # more replicas than cores
    ],
)
def test_pinned_replicas_get_equal_shares_within_a_numa_node(replicas, nodes, expected):
    assert [pinned_cores(number, replicas, nodes) for number in range(replicas)] == expected


def test_the_cores_of_numa_nodes_are_those_that_this_process_may_use(tmp_path, monkeypatch):
    for number, cores in enumerate(("0-3,8-9", "4-7,10", "11")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(f"{cores}\n")
    monkeypatch.setattr(module, "NUMA", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 8, 4}, raising=False)
    assert numa_nodes() == [[1, 2, 8], [4]]
    monkeypatch.setattr(module, "NUMA", tmp_path / "none")
    assert numa_nodes() == [[1, 2, 4, 8]]


def groups(available, slots=3, **settings):
    spec = ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py", parallel_level=2, **settings)
    return [group_for(spec, slot, available) for slot in range(slots)]


def test_replicas_of_several_devices_take_the_next_ones():
    assert groups([0, 1, 2, 3, 4]) == [[0, 1], [2, 3], [0, 1]]
    assert groups([0, 1, 2, 3], device_ids=[3, 1]) == [[3, 1]] * 3
    assert groups([0]) == groups([0, 1], device_type="cpu") == [[]] * 3


def test_a_group_sees_only_its_devices(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible([2, 3]) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-8f,6")
    assert visible([1, 2]) == {"CUDA_VISIBLE_DEVICES": "GPU-8f,6"}
