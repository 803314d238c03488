"""Contract 2.3: scale, with each parameter and outcome."""

import pytest
from contract import TELL, error, pack, status

BROKEN = "raise RuntimeError('this module cannot be imported')"


@pytest.fixture(scope="module", autouse=True)
def models(store, management):
    pack(store, "broken", BROKEN)
    pack(store, "idle", TELL)
    for name in ("broken", "idle"):
        management.post(f"/models?url={name}.mar&initial_workers=0").raise_for_status()


@pytest.fixture
def scale(management):
    return lambda model="idle", **parameters: management.put(f"/models/{model}", params=parameters)


@pytest.fixture
def sizes(management):
    def sizes(model="idle"):
        (described,) = management.get(f"/models/{model}").json()
        return described["minWorkers"], described["maxWorkers"]

    return sizes


def test_parameter_min_worker_is_1_by_default(scale, sizes):
    scale(max_worker=3)
    assert sizes() == (1, 3)


def test_parameter_max_worker_is_min_worker_by_default(scale, sizes):
    scale(min_worker=0)
    assert sizes() == (0, 0)


def test_parameter_model_version_may_be_in_the_query(scale, sizes):
    status(scale(min_worker=0, max_worker=2, model_version="1.0"), 202)
    assert sizes() == (0, 2)
    error(scale(model_version="9"), 404, "ModelVersionNotFoundException")


def test_parameter_synchronous_is_false_by_default(scale):
    assert status(scale(min_worker=0), 202) == "Processing worker updates..."


@pytest.mark.parametrize("ignored", ["number_gpu", "unknown"])
def test_parameters_that_have_no_meaning(scale, ignored):
    status(scale(min_worker=0, **{ignored: 1}), 202)


def test_parameter_timeout_counts_here(scale):
    answer = scale("broken", min_worker=1, synchronous="true", timeout=1)
    assert error(answer, 500, "InternalServerException").startswith(
        "Failed to start workers for model broken"
    )
    scale("broken", min_worker=0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("idle", "Workers scaled to 1 for model: idle", id="without a version"),
        pytest.param("idle/1.0", "Workers scaled to 1 for model: idle, version: 1.0", id="with a version"),
    ],
)
def test_outcome_synchronous(scale, management, path, message):
    assert status(scale(path, min_worker=1, synchronous="true"), 200) == message
    (described,) = management.get("/models/idle").json()
    assert [worker["status"] for worker in described["workers"]] == ["READY"]


@pytest.mark.parametrize(("path", "version"), [("broken", "null"), ("broken/1.0", "1.0")])
def test_outcome_failure(scale, management, path, version):
    message = error(scale(path, min_worker=1, synchronous="true"), 500, "InternalServerException")
    assert message.splitlines()[0] == f"Failed to start workers for model broken version: {version}"
    assert management.get("/models/broken").status_code == 200  # it stays registered
    scale("broken", min_worker=0)


@pytest.mark.parametrize(
    ("path", "parameters", "code", "kind", "message"),
    [
        pytest.param("idle", {"min_worker": 2, "max_worker": 1}, 400, "BadRequestException",
                     "max_worker cannot be less than min_worker.", id="max < min"),
        pytest.param("no", {}, 404, "ModelNotFoundException", "Model not found: no", id="unknown model"),
        pytest.param("idle/9", {}, 404, "ModelVersionNotFoundException",
                     "Model version: 9 does not exist for model: idle", id="unknown version"),
        pytest.param("idle", {"min_worker": -1}, 400, "BadRequestException",
                     "Parameter min_worker: must be an integer from 0 to 10000, got '-1'",
                     id="min_worker=-1: here a 400"),
    ],
)  # fmt: skip
def test_errors(scale, path, parameters, code, kind, message):
    assert error(scale(path, **parameters), code, kind) == message


def test_workers_are_added_up_to_the_minimum_and_removed_above_the_maximum(scale, management):
    def running():
        (described,) = management.get("/models/idle").json()
        return sum(worker["status"] == "READY" for worker in described["workers"])

    scale(min_worker=2, max_worker=3, synchronous="true").raise_for_status()
    assert running() == 2
    scale(min_worker=0, synchronous="true").raise_for_status()
    assert running() == 0


def test_there_is_no_json_body(management, sizes):
    management.put("/models/idle?min_worker=0", json={"min_worker": 5}).raise_for_status()
    assert sizes() == (0, 0)
