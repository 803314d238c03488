import json

import pytest

from archive.model_config import ModelConfig
from marq.registry.config.unused_keys import unused_keys

ONE_HOST = "starts its processes on one host: rdzv-*, node-rank and monitor-interval have no effect"
NO_RANGE = "has no effect unless maxWorkers is above minWorkers"


def found(**keys: object) -> list[tuple[str, str]]:
    return list(unused_keys(ModelConfig.parse(json.dumps(keys))))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"torchrun": {"nproc-per-node": 2}}, [("torchrun", "has no effect without parallelType")]),
        ({"parallelLevel": 2}, [("parallelLevel", "has no effect without parallelType")]),
        ({"sequenceDrainSec": 5}, [("sequenceDrainSec", "has no effect without sequenceBatching")]),
        ({"parallelType": "tp"}, [("parallelType", "has no effect without parallelLevel or torchrun")]),
        (
            {"parallelType": "tp", "torchrun": {"nproc-per-node": 2, "rdzv-backend": "c10d"}},
            [("torchrun", ONE_HOST)],
        ),
        ({"parallelType": "tp", "torchrun": {"nproc-per-node": 2, "OMP_NUMBER_THREADS": 4}}, []),
        ({"maxWorkers": 3}, [("maxWorkers", "has no effect without minWorkers")]),
        ({"minWorkers": -1}, [("minWorkers", "counts as 1, as in TorchServe: it is below")]),
        ({"batchSize": 0}, [("batchSize", "counts as 1, as in TorchServe: it is below")]),
        *(
            ({key: 0}, [(key, "counts as not set, as in TorchServe: it is 0")])
            for key in ("maxWorkers", "maxBatchDelay", "jobQueueSize", "parallelLevel")
        ),
        ({"deviceType": "XPU"}, [("deviceType", "counts as gpu: xpu and all other GPUs are used")]),
        ({"minWorkers": 1, "idleTimeoutSec": 9}, [("idleTimeoutSec", "has no effect without minWorkers: 0")]),
        (
            {"minWorkers": 0, "maxWorkers": 2},
            [
                (
                    "minWorkers",
                    "counts as 1, as in TorchServe: with idleTimeoutSec, a model rests without replicas",
                )
            ],
        ),
        *(
            ({"minWorkers": 2, "maxWorkers": 2, key: 9}, [(key, NO_RANGE)])
            for key in ("targetQueueMs", "scaleDownDelaySec")
        ),
        (
            {"deviceType": "cpu", "replicasPerDevice": 2},
            [("replicasPerDevice", "has no effect with deviceType cpu")],
        ),
        ({"deviceType": "cpu", "deviceIds": [1]}, [("deviceIds", "has no effect with deviceType cpu")]),
        *(
            ({key: 3}, [(key, "has no effect without sequenceMaxIdleMSec")])
            for key in ("sequenceTimeoutMSec", "maxSequenceJobQueueSize", "maxNumSequence")
        ),
        *(
            (
                {"sequenceMaxIdleMSec": 9, key: 9},
                [(name, "has no effect without sequenceBatching") for name in (key, "sequenceMaxIdleMSec")],
            )
            for key in ("sequenceTimeoutMSec", "maxSequenceJobQueueSize", "maxNumSequence")
        ),
        (
            {"sequenceBatching": True, "sequenceMaxIdleMSec": 9, "sequenceTimeoutMSec": 8},
            [
                (
                    "sequenceMaxIdleMSec",
                    "has no effect: sequenceTimeoutMSec is shorter, and no sequence lasts longer than that",
                )
            ],
        ),
        (
            {"minWorkers": 1, "maxWorkers": 4, "useJobTicket": True},
            [("maxWorkers", "is reached by jobs alone: with useJobTicket no prediction waits for a replica")],
        ),
        ({"batch_size": 4}, [("batch_size", "has no effect on the server: did you mean batchSize?")]),
        ({"bathcSize": 4}, [("bathcSize", "has no effect on the server: did you mean batchSize?")]),
        ({"BatchSize": 4}, [("BatchSize", "has no effect on the server: did you mean batchSize?")]),
        (
            {"maxBatchDelays": 4},
            [("maxBatchDelays", "has no effect on the server: did you mean maxBatchDelay?")],
        ),
        (
            {"response-timeout": 4},
            [("response-timeout", "has no effect on the server: did you mean responseTimeout?")],
        ),
    ],
)
def test_other_keys_without_an_effect_are_named(keys, expected):
    assert found(**keys) == expected


def test_keys_of_the_handler_and_keys_with_an_effect_are_not_named():
    keys = {
        "minWorkers": 1,
        "maxWorkers": 2,
        "batchSize": 4,
        "deviceType": "gpu",
        "deviceIds": [0],
        "useVenv": True,
        "targetQueueMs": 500,
        "scaleDownDelaySec": 60,
        "replicasPerDevice": 2,
    }
    assert found(minWorkers=0, maxWorkers=1, idleTimeoutSec=60) == []
    assert found(handler={"batch_size": 3}, model_path="x", max_batch=3, temperature=1, **keys) == []
