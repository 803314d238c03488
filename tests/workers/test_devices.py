import os

import pytest

from marq.registry.spec import ModelSpec
from workers.devices import device_for, threads_per_replica


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
