"""Contract 1.10: which model `/invocations` runs."""

import httpx
import pytest
from contract import error

NO_WORKER = 'Model "idle" has no worker to serve inference request.'


@pytest.fixture(scope="module")
def server(start):
    """A server that was started with no model."""
    return start(models=())


@pytest.fixture(scope="module", autouse=True)
def idle(management):
    """The model that is found: without a worker it is named by the answer."""
    management.post("/models?url=tell.mar&model_name=idle&initial_workers=0").raise_for_status()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"params": {"model_name": "idle"}}, id="query"),
        pytest.param({"data": {"model_name": "idle"}}, id="urlencoded form"),
        pytest.param({"data": {"model_name": "idle"}, "files": {"f": b"x"}}, id="multipart form"),
        pytest.param(
            {"params": {"model_name": ""}, "data": {"model_name": "idle"}}, id="empty query, then form"
        ),
    ],
)
def test_the_request_names_the_model(inference, request_):
    answer = inference.post("/invocations", **request_)
    assert error(answer, 503, "ServiceUnavailableException").startswith(NO_WORKER)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"params": {"model_name": ""}}, id="empty query: here as if there were none"),
        pytest.param({"json": {"model_name": "idle"}}, id="JSON body"),
        pytest.param({"data": {"name": "idle"}}, id="form without the field"),
    ],
)
def test_without_a_resolvable_model(inference, request_):
    answer = inference.post("/invocations", **request_)
    assert error(answer, 400, "BadRequestException") == "Parameter model_name is required."


def test_a_model_that_is_not_there(inference):
    answer = inference.post("/invocations?model_name=no")
    assert error(answer, 404, "ModelNotFoundException") == "Model not found: no"


def test_the_only_startup_model_is_meant_without_a_name(usual_server):
    usual_server.wait_until_ready("tell")
    for path in ("/invocations", "/invocations?model_name="):
        assert httpx.post(usual_server.inference + path).json()["version"] == "1.0"
