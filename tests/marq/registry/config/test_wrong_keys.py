import json

import pytest

from archive.model_config import ModelConfig
from marq.registry.config.wrong_keys import wrong_keys

SEQUENCES = {"sequenceBatching": True, "sequenceMaxIdleMSec": 9000}


def found(**keys: object) -> list[str]:
    return list(wrong_keys(ModelConfig.parse(json.dumps(keys))))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"minWorkers": 3, "maxWorkers": 2},
            "minWorkers is 3, and maxWorkers is 2: maxWorkers must be at least minWorkers",
        ),
        (
            {"minWorkers": 0, "idleTimeoutSec": 60},
            "idleTimeoutSec with minWorkers: 0 needs maxWorkers, the most replicas that requests may start: "
            "for example maxWorkers: 1",
        ),
        ({"deviceType": "tpu"}, "deviceType must be one of cpu, gpu, cuda, rocm, xpu, mps, got 'tpu'"),
        (
            {"parallelType": "tp", "torchrun": {"nnodes": 2, "nproc-per-node": 2}},
            "torchrun: nnodes must be 1, because the processes of a replica run on one host. With "
            "nproc-per-node they are as many as there.",
        ),
        (
            {"parallelType": "tp", "parallelLevel": 4, "torchrun": {"nproc-per-node": 2}},
            "parallelLevel is 4, and torchrun starts 2 processes (nproc-per-node). Set both to the same "
            "number, or remove parallelLevel.",
        ),
        (
            {"sequenceBatching": True},
            "sequenceBatching needs sequenceMaxIdleMSec, the time in milliseconds after which an idle "
            "sequence ends. Set it, for example to 60000.",
        ),
    ],
)
def test_a_key_that_cannot_be_followed_is_named_with_what_is_right(keys, said):
    assert found(**keys) == [said]


def test_keys_that_go_together_are_right():
    assert found(minWorkers=2, maxWorkers=2, parallelType="tp", parallelLevel=2) == []
    assert found(minWorkers=2, maxWorkers=0) == []  # 0 counts as not set
    assert found(minWorkers=0, maxWorkers=1, idleTimeoutSec=60) == []
    assert found(**SEQUENCES) == []


def test_all_faults_are_named():
    assert len(found(minWorkers=3, maxWorkers=2, deviceIds=[-1], sequenceBatching="yes")) == 3


def test_a_group_of_processes_needs_its_devices_and_one_batch_at_a_time():
    group = {"parallelType": "tp", "parallelLevel": 4}
    assert found(**group) == found(**group, deviceIds=[0, 1, 2, 3]) == []
    for few in ([0, 1], [0, 1, 1, 0]):
        assert found(**group, deviceIds=few) == [
            "a replica has 4 processes (parallelLevel or nproc-per-node), and deviceIds names 2 GPUs. "
            "Name as many GPUs, or lower the number."
        ]
    [said] = found(**group, asyncCommunication=True)
    assert said.startswith("torchrun and asyncCommunication exclude each other: ")
    assert found(parallelLevel=4, deviceIds=[0], asyncCommunication=True) == []  # without a type it is none
    assert found(**group, deviceIds=[0], deviceType="cpu") == []


def test_a_process_with_several_devices_needs_as_many():
    custom = {"parallelType": "custom", "parallelLevel": 2}
    assert found(**custom, deviceIds=[0, 1], asyncCommunication=True) == []
    [said] = found(**custom, deviceIds=[0])
    assert said.startswith("a replica has 2 devices ")


@pytest.mark.parametrize("mode", ["sequenceBatching", "continuousBatching"])
def test_a_policy_of_a_plugin_needs_plain_batches(mode):
    keys = {mode: True, "sequenceMaxIdleMSec": 1000}
    [said] = found(**keys, batching="like_sizes")
    assert said.startswith(f"{mode} and batching: like_sizes exclude each other: with {mode}, ")
    assert found(**keys, batching="adaptive") == found(**keys, batching="fixed") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sequenceBatching", "asyncCommunication"),
        ("sequenceBatching", "useJobTicket"),
        ("continuousBatching", "asyncCommunication"),
        ("continuousBatching", "useJobTicket"),
        ("useJobTicket", "asyncCommunication"),
    ],
)
def test_modes_that_exclude_each_other_are_named(one, other):
    [said] = found(**{one: True, other: True, "sequenceMaxIdleMSec": 1000})
    assert said.startswith(f"{one} and {other} exclude each other: with {one}, ")
    assert said.endswith("Switch one of them off.")


def test_sequences_go_with_continuous_batching():
    assert found(**SEQUENCES, continuousBatching=True) == []
