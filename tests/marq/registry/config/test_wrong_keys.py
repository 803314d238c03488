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
        (
            {**SEQUENCES, "sequenceTimeoutMSec": 8000},
            "sequenceTimeoutMSec, the longest time of a sequence, is 8000, and sequenceMaxIdleMSec, the "
            "longest pause in it, is 9000: the pause must not be longer. sequenceTimeoutMSec: 0 means no "
            "limit.",
        ),
    ],
)
def test_a_key_that_cannot_be_followed_is_named_with_what_is_right(keys, said):
    assert found(**keys) == [said]


def test_keys_that_go_together_are_right():
    assert found(minWorkers=2, maxWorkers=2, parallelType="tp", parallelLevel=2) == []
    assert found(minWorkers=2, maxWorkers=0) == []  # 0 counts as not set
    assert found(minWorkers=0, maxWorkers=1, idleTimeoutSec=60) == []
    assert found(**SEQUENCES, sequenceTimeoutMSec=0) == found(**SEQUENCES, sequenceTimeoutMSec=9000) == []


def test_all_faults_are_named():
    assert len(found(minWorkers=3, maxWorkers=2, deviceIds=[-1], sequenceBatching="yes")) == 3
