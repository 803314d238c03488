"""Contract 2.5: describe, with each key."""

import time
from datetime import datetime

import httpx
import pytest
from contract import TELL, error, pack

YAML = {
    "maxRetryTimeoutInSec": 30, "clientTimeoutInMills": 4000, "deviceType": "cpu", "deviceIds": [0, 1],
    "parallelType": "pp", "parallelLevel": 2, "useVenv": True, "continuousBatching": True,
    "sequenceMaxIdleMSec": 8, "sequenceTimeoutMSec": 9, "maxNumSequence": 7,
    "maxSequenceJobQueueSize": 6,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def models(store, management):
    pack(store, "configured", TELL, config={**YAML, "sequenceBatching": True})
    management.post("/models?url=configured.mar&initial_workers=0").raise_for_status()
    pack(store, "ticketed", TELL, config={"useJobTicket": True})
    management.post("/models?url=ticketed.mar&initial_workers=0").raise_for_status()
    management.post("/models?url=tell2.mar&initial_workers=0").raise_for_status()


@pytest.fixture(scope="module")
def described(server, management):
    assert server.predict("tell").status_code == 200
    (described,) = management.get("/models/tell").json()
    return described


KEYS = {
    "modelName": "tell", "modelVersion": "1.0", "modelUrl": "tell.mar", "runtime": "python",
    "minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": 100,
    "responseTimeout": 3, "startupTimeout": 120, "maxRetryTimeoutInSec": 300, "clientTimeoutInMills": 0,
    "parallelType": "", "parallelLevel": 0, "deviceType": "cpu",
    "continuousBatching": False, "useJobTicket": False, "useVenv": False, "stateful": False,
    "sequenceMaxIdleMSec": 0, "sequenceTimeoutMSec": 0, "maxNumSequence": 0, "maxSequenceJobQueueSize": 0,
    "loadedAtStartup": True, "jobQueueStatus": {"remainingCapacity": 100, "pendingRequests": 0},
}  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_key(described, key):
    if key == "deviceType" and described["workers"][0]["gpu"]:
        pytest.skip("there is a GPU")
    assert described[key] == KEYS[key]
    assert type(described[key]) is type(KEYS[key])


def test_keys_come_in_torchserves_order_and_nulls_are_left_out(described):
    order = list(KEYS)
    order.insert(order.index("jobQueueStatus"), "workers")
    assert [key for key in described if key in order] == order
    assert not {"engine", "status", "metrics", "deviceIds", "customizedMetadata"} & described.keys()


@pytest.mark.parametrize("key", YAML)
def test_key_from_model_config(management, key):
    (configured,) = management.get("/models/configured").json()
    assert configured[key] == YAML[key]


def test_key_of_job_tickets(management):
    (ticketed,) = management.get("/models/ticketed").json()
    assert ticketed["useJobTicket"] is True


def test_key_stateful_is_sequence_batching(management):
    (configured,) = management.get("/models/configured").json()
    assert configured["stateful"] is True


@pytest.mark.parametrize(
    ("key", "is_right"),
    [
        ("id", lambda value: value.endswith("/0")),
        ("startTime", lambda value: abs(_unix(value) - time.time()) < 3600),
        ("status", lambda value: value == "READY"),
        ("memoryUsage", lambda value: value > 1_000_000),
        ("pid", lambda value: value > 1),
        ("gpu", lambda value: value in (True, False)),
        ("gpuUsage", lambda value: value == "N/A" or value.startswith("gpuId::")),
    ],
)
def test_key_of_workers(described, key, is_right):
    (worker,) = described["workers"]
    assert is_right(worker[key]), worker[key]


def _unix(text):
    assert text.endswith("Z") and len(text) == len("2024-01-02T03:04:05.678Z")
    return datetime.fromisoformat(text).timestamp()


def test_key_customizedMetadata_is_there_if_asked_for(management):  # noqa: N802 - TorchServe's name
    """The handler gets an empty row and the header `describe`."""
    for value in ("true", "True"):
        (described,) = management.get(f"/models/tell?customized={value}").json()
        assert list(described)[-1] == "customizedMetadata"
        assert described["customizedMetadata"] == {"described": []}
    (described,) = management.get("/models/tell?customized=yes").json()
    assert "customizedMetadata" not in described


def test_customized_describe_of_a_model_without_workers(management):
    message = error(management.get("/models/configured?customized=true"), 503, "ServiceUnavailableException")
    assert message == (
        'Model "configured" has no worker to serve describe request. '
        "Please use scale workers API to add workers."
    )


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        ("/models/tell", ["1.0"]),
        ("/models/tell/2.0", ["2.0"]),
        ("/models/tell/all?customized=true", ["1.0", "2.0"]),
    ],
)
def test_versions(management, path, versions):
    described = management.get(path).json()
    assert [each["modelVersion"] for each in described] == versions
    assert not any("customizedMetadata" in each for each in described)


def test_what_waits_is_counted(server, management):
    job = httpx.post(f"{server.inference}/jobs/configured", content=b"x").json()["job_id"]
    (configured,) = management.get("/models/configured").json()
    assert configured["jobQueueStatus"] == {"remainingCapacity": 99, "pendingRequests": 1}
    assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "queued"


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/models/no", "ModelNotFoundException", "Model not found: no"),
        ("/models/no/all", "ModelNotFoundException", "Model not found: no"),
        (
            "/models/tell/9",
            "ModelVersionNotFoundException",
            "Model version: 9 does not exist for model: tell",
        ),
    ],
)
def test_errors(management, path, kind, message):
    assert error(management.get(path), 404, kind) == message
